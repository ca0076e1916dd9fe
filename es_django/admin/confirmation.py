"""Actions that ask first: what is chosen is shown on a page of its own, whose form sends the answer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from es_django.admin.base import ModelT, ReadOnlyAdmin
from es_django.admin.pagination import column_value

CONFIRMED = "confirmed"


class Choice(NamedTuple):
    """A chosen row, what the page says of it, and what else the answer tells of how it was shown."""

    row: Model
    text: object
    shown: Mapping[str, object] = {}


class ConfirmingAdmin(ReadOnlyAdmin[ModelT]):
    """A read-only admin with actions, each of which asks before it does anything."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # What is no key is nobody's: Django would ask the database for it.
        ticked = request.POST.copy()
        ticked.setlist(ACTION_CHECKBOX_NAME, [key for key in _ticked(request) if self._is_key(key)])
        request.POST = ticked  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)

    def chosen_by_hand(self, request: HttpRequest) -> list[ModelT]:
        """The rows that were ticked, whatever else the request says: "all" would be the whole table, and a filter would
        leave out what has changed since. The user is told of those that are gone."""
        keys = set(_ticked(request))
        rows = list(self.get_queryset(request).filter(pk__in=keys).order_by(*self.ordering or ()))
        if gone := len(keys) - len(rows):
            told = "1 row was" if gone == 1 else f"{gone} rows were"
            self.message_user(request, f"{told} skipped: no longer there.", messages.WARNING)
        return rows

    def _is_key(self, text: str) -> bool:
        try:
            column_value(self.opts.pk, text)
        except ValidationError:
            return False
        return True

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


def _ticked(request: HttpRequest) -> list[str]:
    return request.POST.getlist(ACTION_CHECKBOX_NAME)


def username(request: HttpRequest) -> str:
    """Who asks, for the log."""
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101  # the admin lets nobody else in
    return request.user.get_username()
