"""An event as today's code reads it, beside what is stored of it."""

from collections.abc import Collection

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.db.models import TextField
from django.db.models.functions import Cast, Length

from es_django import conf
from es_django.admin.json_text import Document, document
from es_django.admin.masking import without_reason
from es_django.core.errors import EsDjangoError
from es_django.core.registry import registry
from es_django.core.replay_errors import UndecodableEvent, UpcastError
from es_django.core.streams import StreamId
from es_django.models import StoredEvent

LONGEST_READ = 2_000_000


class Reading(msgspec.Struct, frozen=True):
    """What a payload is read as: `documents`, one for each event that upcasting makes of it, unless `note` says all."""

    note: str = ""
    error: str = ""
    documents: list[Document] = []


def read_today(event: StoredEvent, *, limit: int, hidden: Collection[str]) -> Reading:
    """The event as the registry decodes it, without the values of `hidden` keys."""
    rows = StoredEvent.objects.using(conf.settings().database).annotate(text=Cast("data", TextField()))
    short = rows.annotate(length=Length("text")).filter(length__lte=LONGEST_READ)
    text = short.filter(pk=event.pk).values_list("text", flat=True).first()
    if text is None:
        return Reading(note=f"Longer than {LONGEST_READ:,} characters, and not read here.")
    try:
        stream = StreamId(event.stream.category, event.stream.key)
        events = registry.decode(stream, event.version, event.type, event.schema_version, text)
        encoded = [msgspec.json.encode(each).decode() for each in events]
    except (EsDjangoError, ImproperlyConfigured, TypeError, ValueError, RecursionError) as error:
        return Reading(error=told(error, hidden))
    if not encoded:
        return Reading(note="Read today as no event at all: an upcaster leaves it out.")
    if [msgspec.json.decode(each) for each in encoded] == [msgspec.json.decode(text)]:
        return Reading(note=f"Read today just so, as {_path(events[0])}.")
    return Reading(
        documents=[
            document(f"Read today as {_path(each)}", as_read, len(as_read), limit, hidden)
            for each, as_read in zip(events, encoded, strict=True)
        ]
    )


def told(error: Exception, hidden: Collection[str]) -> str:
    """What an error says, but for one that may quote values while some are hidden."""
    if hidden and (isinstance(error, UndecodableEvent | UpcastError) or not isinstance(error, EsDjangoError)):
        return without_reason(type(error).__name__)
    return f"{type(error).__name__}: {error}"


def _path(event: object) -> str:
    return f"{type(event).__module__}.{type(event).__qualname__}"
