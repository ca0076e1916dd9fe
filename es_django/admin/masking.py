"""Masks sensitive values for users who may not see them."""

import re
from collections.abc import Callable
from typing import Any, Final

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import Truncator

from es_django.core.registry import registry

PERMISSION = "es_django.view_sensitive_data"
MAX_CHARACTERS_IN_A_ROW: Final = 100

# Match the class in "ValueError: ..." and "ValueError('...')". Any other beginning may already quote a hidden value.
_CLASS = re.compile(r"[A-Za-z_]{1,80}(?=[:(])")


def hidden_keys(request: HttpRequest, event_type: str | None = None) -> frozenset[str]:
    """Return the keys whose values the user may not see: those of `event_type`, or those of all types if it is None.

    Messages and snapshots are masked at the keys that events mark as sensitive. Values under other keys stay visible.
    """
    return frozenset() if request.user.has_perm(PERMISSION) else registry.sensitive_keys(event_type)


def class_only(error_class: str) -> str:
    """Return the text that the page shows instead of an error that may quote hidden values."""
    return f"{error_class}: the message is hidden because it may quote sensitive values."


def error_shown(request: HttpRequest, error: str) -> str:
    """Return the stored error as the user may see it: in full, or only its class if any values are hidden."""
    if not error or not hidden_keys(request):
        return error
    found = _CLASS.match(error)
    return class_only(found[0] if found else "Error")


def error_column(request: HttpRequest) -> Callable[[Any], str]:
    """Return a list column with the last error of a row, masked for the user."""

    @admin.display(description="last error")
    def error(row: Any) -> str:
        return Truncator(error_shown(request, row.last_error)).chars(MAX_CHARACTERS_IN_A_ROW)

    return error
