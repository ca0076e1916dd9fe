"""What is masked on pages, and from whom."""

from django.http import HttpRequest

from es_django.registry import registry

PERMISSION = "es_django.view_sensitive_data"


def hidden_keys(request: HttpRequest, event_type: str | None = None) -> frozenset[str]:
    """The keys whose values the user may not see: in payloads of a type, or where it is None, in any document.

    What is made of an event, as a message or a snapshot, keeps the names of its fields or is not masked.
    """
    return frozenset() if request.user.has_perm(PERMISSION) else registry.sensitive_keys(event_type)
