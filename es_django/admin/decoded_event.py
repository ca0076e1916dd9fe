"""A stored event as current code reads it."""

from collections.abc import Collection

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.db.models import TextField
from django.db.models.functions import Cast, Length

from es_django import conf
from es_django.admin.json_text import Document, document
from es_django.admin.masking import class_only
from es_django.core.errors import EsDjangoError
from es_django.core.registry import registry
from es_django.core.replay_errors import UndecodableEvent, UpcastError
from es_django.core.streams import StreamId
from es_django.models import StoredEvent

MAX_CHARACTERS = 2_000_000


class DecodedEvent(msgspec.Struct, frozen=True):
    """The result of decoding a payload: a `note`, an `error`, or one document for each event that upcasting returns."""

    note: str = ""
    error: str = ""
    documents: list[Document] = []


def decode_event(event: StoredEvent, *, limit: int, hidden: Collection[str]) -> DecodedEvent:
    """Decode an event as the registry does, and mask the values of `hidden` keys."""
    rows = StoredEvent.objects.using(conf.settings().database).annotate(text=Cast("data", TextField()))
    short = rows.annotate(length=Length("text")).filter(length__lte=MAX_CHARACTERS)
    text = short.filter(pk=event.pk).values_list("text", flat=True).first()
    if text is None:
        return DecodedEvent(note=f"The payload has more than {MAX_CHARACTERS:,} characters and is not decoded here.")
    try:
        stream = StreamId(event.stream.category, event.stream.key)
        events = registry.decode(stream, event.version, event.type, event.schema_version, text)
        encoded = [msgspec.json.encode(each).decode() for each in events]
    except (EsDjangoError, ImproperlyConfigured, TypeError, ValueError, RecursionError) as error:
        return DecodedEvent(error=error_message(error, hidden))
    if not encoded:
        return DecodedEvent(note="Current code drops this event: an upcaster returns no event for it.")
    if [msgspec.json.decode(each) for each in encoded] == [msgspec.json.decode(text)]:
        return DecodedEvent(note=f"Current code reads this payload unchanged, as {_path(events[0])}.")
    return DecodedEvent(
        documents=[
            document(f"As current code reads it: {_path(each)}", as_read, len(as_read), limit, hidden)
            for each, as_read in zip(events, encoded, strict=True)
        ]
    )


def error_message(error: Exception, hidden: Collection[str]) -> str:
    """Return the class and text of an error. Leave the text out if it may quote hidden values."""
    if hidden and (isinstance(error, UndecodableEvent | UpcastError) or not isinstance(error, EsDjangoError)):
        return class_only(type(error).__name__)
    return f"{type(error).__name__}: {error}"


def _path(event: object) -> str:
    return f"{type(event).__module__}.{type(event).__qualname__}"
