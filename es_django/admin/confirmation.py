"""Actions with a confirmation page that lists the selected rows."""

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
MAX_SELECTED = 500
"""The number of rows of one action, so that its statements have few parameters."""


class SelectedRow(NamedTuple):
    """A selected row, its text on the confirmation page, and hidden form fields that say how the row was shown."""

    row: Model
    text: object
    shown: Mapping[str, object] = {}


class ConfirmingAdmin(ReadOnlyAdmin[ModelT]):
    """A read-only admin whose actions ask for confirmation."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Drop values that are not keys. Django would query the database with them, and the query would fail.
        ticked = request.POST.copy()
        ticked.setlist(ACTION_CHECKBOX_NAME, [key for key in _ticked(request) if self._is_key(key)])
        request.POST = ticked  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)

    def selected_rows(self, request: HttpRequest) -> list[ModelT]:
        """Return the rows whose check boxes were selected, and show a warning for rows that no longer exist.

        Ignore "Select all", because it could mean the whole table. Ignore filters, because they would silently drop a
        row that has changed since the list showed it.
        """
        ticked = _ticked(request)
        keys = set(ticked[:MAX_SELECTED])
        if len(ticked) > MAX_SELECTED:
            text = f"Only the first {MAX_SELECTED} of the selected rows are included."
            self.message_user(request, text, messages.WARNING)
        rows = list(self.get_queryset(request).filter(pk__in=keys).order_by(*self.ordering or ()))
        if gone := len(keys) - len(rows):
            rows_skipped = "1 row was" if gone == 1 else f"{gone} rows were"
            self.message_user(request, f"{rows_skipped} skipped: no longer there.", messages.WARNING)
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
        self, request: HttpRequest, *, title: str, rows: Sequence[SelectedRow], answer: str, explanation: str = ""
    ) -> TemplateResponse:
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "explanation": explanation,
            "rows": rows,
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
    """Return the name of the user, for the log."""
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101  # only logged-in users reach the admin
    return request.user.get_username()
