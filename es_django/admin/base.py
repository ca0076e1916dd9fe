"""The base of all pages here: they show and never edit.

What the store holds is what happened. A page that could edit it would let a slip of the hand rewrite history, so that
adding, changing and deleting are refused to everyone, superusers included. What a page offers beyond reading is an
action with a permission of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst

from es_django import conf
from es_django.admin.json_text import Document, document, stored_text
from es_django.admin.masking import hidden_keys
from es_django.admin.pagination import KeysetChangeList, column_value

ModelT = TypeVar("ModelT", bound=Model)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin
else:

    class ModelAdmin(admin.ModelAdmin):
        def __class_getitem__(cls, item: object) -> type:
            return cls


Fact = tuple[str, object]
"""A label and what is shown beside it."""

LONGEST_DOCUMENT = 100_000


class ReadOnlyAdmin(ModelAdmin[ModelT]):
    """A list and a page for each row, to be seen with the model's view permission and changed by nobody, but for the
    actions that a class names, each with a permission of its own.

    `ordering` names columns of one index; `documents` the JSON columns, which lists leave in the database, with labels.
    """

    documents: ClassVar[Mapping[str, str]] = {}
    page_template = "es_django/admin/page.html"

    change_list_template: ClassVar[str] = "es_django/admin/change_list.html"
    list_per_page = 50
    actions: Sequence[str] | None = None
    sortable_by: ClassVar[tuple[str, ...]] = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css: ClassVar[Mapping[str, list[str]]] = {"all": ["es_django/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ModelT | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelT | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelT]:
        return super().get_queryset(request).using(conf.settings().database).defer(*self.documents)

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        # Django has named the place of actions since 6.1.
        location = {} if action_location is None else {"action_location": action_location}
        offered = super().get_actions(request, **location)
        # An action of the whole site was written for rows that may change.
        return {name: action for name, action in offered.items() if name in (self.actions or ())}

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # By default any lookup on any column of the model may stand in the URL, and most would read the whole table.
        return lookup in {getattr(each, "parameter_name", None) for each in self.list_filter}

    def readings(self, term: str) -> Iterator[Q]:
        """What a search term can mean, one exact lookup for each, the most likely first."""
        yield from ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ModelT], search_term: str
    ) -> tuple[QuerySet[ModelT], bool]:
        readings = list(self.readings(search_term)) if search_term else []
        if not readings:
            return queryset, False
        for reading in readings[:-1]:
            found = queryset.filter(reading)
            if found.exists():
                return found, False
        return queryset.filter(readings[-1]), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not (request.method == "POST" and request.POST.get("action") in self.get_actions(request)):
            self._refuse_all_but_reading(request)
        title = {"title": capfirst(str(self.opts.verbose_name_plural))}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    # The page of one row

    def facts(self, request: HttpRequest, obj: ModelT) -> list[Fact]:
        """What the page tells of a row, in the order of what an operator asks first. None is left out."""
        raise NotImplementedError

    def page_context(self, request: HttpRequest, obj: ModelT) -> dict[str, Any]:
        """What else the page's template needs."""
        return {"documents": self._documents_of(request, obj)}

    def hidden_keys(self, request: HttpRequest, obj: ModelT) -> frozenset[str]:
        """The keys of its documents whose values the user may not see."""
        return hidden_keys(request)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ModelT | None:
        try:
            pk = column_value(self.opts.pk, object_id)
        except ValidationError:
            return None
        return self.get_queryset(request).filter(pk=pk).first()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.visible_object(request, object_id)
        facts = [(label, value) for label, value in self.facts(request, obj) if value not in (None, "")]
        context = {"facts": facts, **self.page_context(request, obj), **(extra_context or {})}
        return self.page(request, obj, self.page_template, **context)

    def visible_object(self, request: HttpRequest, object_id: str) -> ModelT:
        """The row that a page shows. Raises `PermissionDenied` to who may not view it or does not only read, `Http404`
        if there is none."""
        self._refuse_all_but_reading(request)
        if not self.has_view_permission(request):
            raise PermissionDenied
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404(f"There is no {self.opts.verbose_name} {object_id}.")
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    def page(self, request: HttpRequest, obj: ModelT, template: str, **context: Any) -> HttpResponse:
        """A page of a row; `context` is what its template needs beyond what every page does."""
        request.current_app = self.admin_site.name
        known = {
            **self.admin_site.each_context(request),
            "title": capfirst(str(self.opts.verbose_name)),
            "subtitle": str(obj),
            "opts": self.opts,
            "original": obj,
            "media": self.media,
            **context,
        }
        return TemplateResponse(request, template, known)

    def may_see(self, request: HttpRequest, model: type[Model]) -> bool:
        """Whether this site has pages of another model, and the user may see them."""
        return may_see(self.admin_site, request, model)

    def link(self, request: HttpRequest, model: type[Model], pk: int | str, text: object, *, query: str = "") -> object:
        """`text`, as a link to a row's page if the user may see that."""
        if not self.may_see(request, model):
            return text
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
        url = reverse(name, args=[quote(pk)], current_app=self.admin_site.name)
        return format_html('<a href="{}{}">{}</a>', url, query, text)

    def _documents_of(self, request: HttpRequest, obj: ModelT) -> list[Document]:
        if not self.documents:
            return []
        annotations: dict[str, Any] = {}
        for field in self.documents:
            annotations |= stored_text(field, LONGEST_DOCUMENT)
        rows = self.get_queryset(request).filter(pk=obj.pk).annotate(**annotations).values(*annotations)
        hidden = self.hidden_keys(request, obj)
        return [
            document(label, stored[f"{field}_text"], stored[f"{field}_length"], LONGEST_DOCUMENT, hidden)
            for stored in rows
            for field, label in self.documents.items()
            if stored[f"{field}_text"] is not None
        ]

    def _refuse_all_but_reading(self, request: HttpRequest) -> None:
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied


def may_see(site: admin.AdminSite, request: HttpRequest, model: type[Model]) -> bool:
    """Whether a site has pages of a model, and the user may see them."""
    try:
        return site.get_model_admin(model).has_view_permission(request)
    except NotRegistered:
        return False


def parsed_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
