"""What is masked on pages, and from whom."""

import re
from collections.abc import Callable
from typing import Any, Final

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import Truncator

from es_django.core.registry import registry

PERMISSION = "es_django.view_sensitive_data"
LONGEST_IN_A_ROW: Final = 100

# As in "ValueError: ..." and in "ValueError('...')"; what else an error begins with may be its text.
_CLASS = re.compile(r"[A-Za-z_]{1,80}(?=[:(])")


def hidden_keys(request: HttpRequest, event_type: str | None = None) -> frozenset[str]:
    """The keys whose values the user may not see: in payloads of a type, or where it is None, in any document.

    What is made of an event, as a message or a snapshot, keeps the names of its fields or is not masked.
    """
    return frozenset() if request.user.has_perm(PERMISSION) else registry.sensitive_keys(event_type)


def without_reason(error_class: str) -> str:
    """What is told of an error that may quote what is hidden."""
    return f"{error_class}: its reason is hidden, since it may quote sensitive values."


def error_shown(request: HttpRequest, error: str) -> str:
    """What the user may see of a stored error: no more than its class, if any values are hidden from them."""
    if not error or not hidden_keys(request):
        return error
    found = _CLASS.match(error)
    return without_reason(found[0] if found else "Error")


def error_column(request: HttpRequest) -> Callable[[Any], str]:
    """The column of a list for the last error of a row, as far as the user may see it."""

    @admin.display(description="last error")
    def error(row: Any) -> str:
        return Truncator(error_shown(request, row.last_error)).chars(LONGEST_IN_A_ROW)

    return error
