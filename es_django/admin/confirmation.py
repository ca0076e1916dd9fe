"""Actions that ask first: what is chosen is shown on a page of its own, whose form sends the answer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from es_django.admin.readonly import ModelT, ReadOnlyAdmin

CONFIRMED = "confirmed"


class Choice(NamedTuple):
    """A chosen row, what the page says of it, and what else the answer tells of how it was shown."""

    row: Model
    text: object
    shown: Mapping[str, object] = {}


class ConfirmingAdmin(ReadOnlyAdmin[ModelT]):
    """A read-only admin with actions, each of which asks before it does anything."""

    def chosen_by_hand(self, request: HttpRequest, queryset: QuerySet[ModelT]) -> QuerySet[ModelT]:
        """The rows that were ticked, whatever else the request says: "all" would be the whole table."""
        return queryset.filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))

    def is_confirmed(self, request: HttpRequest) -> bool:
        return CONFIRMED in request.POST

    def confirmation(
        self, request: HttpRequest, *, title: str, choices: Sequence[Choice], answer: str, explanation: str = ""
    ) -> TemplateResponse:
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "explanation": explanation,
            "choices": choices,
            "answer": answer,
            "checkbox": ACTION_CHECKBOX_NAME,
            "confirmed": CONFIRMED,
            "action": request.POST.get("action"),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "es_django/admin/confirmation.html", context)


def username(request: HttpRequest) -> str:
    """Who asks, for the log."""
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101  # the admin lets nobody else in
    return request.user.get_username()
