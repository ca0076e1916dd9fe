"""The base of all admin pages of this package: they are read-only.

Stored rows record what happened. Nobody, not even a superuser, may add, change or delete them here. Every operation
that changes something is an action with its own permission.
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
"""A label and its value on a page."""

MAX_DOCUMENT_CHARACTERS = 100_000


class ReadOnlyAdmin(ModelAdmin[ModelT]):
    """A list of rows and a page for each row, for users with the view permission of the model.

    - `actions`: the only changes that users can make, each with its own permission.
    - `ordering`: columns of one index.
    - `documents`: JSON columns and their labels. Lists do not load these columns.
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
        # Django 6.1 added `action_location`.
        location = {} if action_location is None else {"action_location": action_location}
        offered = super().get_actions(request, **location)
        # Site-wide actions may change rows, so offer only the actions of this class.
        return {name: action for name, action in offered.items() if name in (self.actions or ())}

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # By default, Django accepts any lookup on any column from the URL. Most lookups would scan the table.
        return lookup in {getattr(each, "parameter_name", None) for each in self.list_filter}

    def search_lookups(self, term: str) -> Iterator[Q]:
        """Yield an exact lookup for each meaning that a search term may have, the most likely meaning first."""
        yield from ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ModelT], search_term: str
    ) -> tuple[QuerySet[ModelT], bool]:
        lookups = list(self.search_lookups(search_term)) if search_term else []
        if not lookups:
            return queryset, False
        for lookup in lookups[:-1]:
            found = queryset.filter(lookup)
            if found.exists():
                return found, False
        return queryset.filter(lookups[-1]), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not (request.method == "POST" and request.POST.get("action") in self.get_actions(request)):
            self._require_read_request(request)
        title = {"title": capfirst(str(self.opts.verbose_name_plural))}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    # The page of one row

    def facts(self, request: HttpRequest, obj: ModelT) -> list[Fact]:
        """Return the facts that the page shows about a row, the most important first. The page omits empty values."""
        raise NotImplementedError

    def page_context(self, request: HttpRequest, obj: ModelT) -> dict[str, Any]:
        """Return the additional context of the page's template."""
        return {"documents": self._documents_of(request, obj)}

    def hidden_keys(self, request: HttpRequest, obj: ModelT) -> frozenset[str]:
        """Return the JSON keys whose values are hidden from the user in the documents of a row."""
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
        """Return the row that a page shows.

        Raises:
            PermissionDenied: The user may not view the row, or the request is not a GET or HEAD.
            Http404: The row does not exist.
        """
        self._require_read_request(request)
        if not self.has_view_permission(request):
            raise PermissionDenied
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404(f"{self.opts.verbose_name} {object_id} does not exist.")
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    def page(self, request: HttpRequest, obj: ModelT, template: str, **context: Any) -> HttpResponse:
        """Render a page of a row. The template gets `context` and the context that every page has."""
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
        """Return whether this site registers `model` and the user may view it."""
        return may_see(self.admin_site, request, model)

    def link(self, request: HttpRequest, model: type[Model], pk: int | str, text: object, *, query: str = "") -> object:
        """Return `text`, linked to the page of a row if the user may see that page."""
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
            annotations |= stored_text(field, MAX_DOCUMENT_CHARACTERS)
        rows = self.get_queryset(request).filter(pk=obj.pk).annotate(**annotations).values(*annotations)
        hidden = self.hidden_keys(request, obj)
        return [
            document(label, stored[f"{field}_text"], stored[f"{field}_length"], MAX_DOCUMENT_CHARACTERS, hidden)
            for stored in rows
            for field, label in self.documents.items()
            if stored[f"{field}_text"] is not None
        ]

    def _require_read_request(self, request: HttpRequest) -> None:
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied


def may_see(site: admin.AdminSite, request: HttpRequest, model: type[Model]) -> bool:
    """Return whether `site` registers `model` and the user may view it."""
    try:
        return site.get_model_admin(model).has_view_permission(request)
    except NotRegistered:
        return False


def parsed_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
