"""The state of an aggregate at any version, and the changes of that version."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.utils.html import escape

from es_django.admin.decoded_event import error_message
from es_django.admin.json_text import Document, document, masked
from es_django.admin.timeline import whole_number
from es_django.core.aggregates import Aggregate
from es_django.models import Stream
from es_django.repository import Repository

MAX_FOLDED_EVENTS = 50_000
MAX_VALUE_CHARACTERS = 4_000


class ShownField(msgspec.Struct, frozen=True):
    """A field of the state: its value after the event, and its value before if the event changed it."""

    name: str
    value: Document
    before: Document | None

    @property
    def is_changed(self) -> bool:
        return self.before is not None


class TimeTravel:
    """The state of a stream's aggregate after version `at`: its `fields`, or the `error` that prevented the replay.

    At most `MAX_FOLDED_EVENTS` events are replayed. `highest` is the last version that can be shown. `is_cut` is
    true if the stream has later versions.
    """

    def __init__(
        self, aggregate: type[Aggregate], stream: Stream, query: Mapping[str, str], hidden: Collection[str]
    ) -> None:
        self.aggregate: str = f"{aggregate.__module__}.{aggregate.__qualname__}"
        self.total: int = stream.version
        self.highest: int = min(self.total, MAX_FOLDED_EVENTS)
        self.at: int = max(1, min(whole_number(query.get("at"), default=self.total), self.total))
        self.error: str = ""
        self.fields: list[ShownField] = []
        if self.at > self.highest > 0:
            self.error = f"Version {self.at} cannot be shown: this page replays only the first {self.highest} events."
        elif self.highest:
            try:
                before, after = _state(aggregate, stream.key, self.at - 1), _state(aggregate, stream.key, self.at)
            except Exception as error:  # an @applies method may raise anything
                self.error = error_message(error, hidden)
            else:
                self.fields = _compared(before, after, hidden)

    @property
    def is_cut(self) -> bool:
        return self.highest < self.total

    @property
    def links(self) -> list[tuple[str, str]]:
        """The links to other versions."""
        steps = [
            ("First", 1, self.at > 1),
            ("Previous", min(self.at - 1, self.highest), self.at > 1),
            ("Next", self.at + 1, self.at < self.highest),
            ("Last" if not self.is_cut else "Last that can be shown", self.highest, self.at != self.highest),
        ]
        return [(label, f"?{urlencode({'at': version})}") for label, version, leads_on in steps if leads_on]


def _state(aggregate: type[Aggregate], key: str, version: int) -> dict[str, Any]:
    folded = Repository(aggregate).get(key, version=version) if version else aggregate(key)
    return folded._state()


def _compared(before: dict[str, Any], after: dict[str, Any], hidden: Collection[str]) -> list[ShownField]:
    fields = []
    for name in {**after, **before}:
        is_changed = (name in before) != (name in after) or before.get(name) != after.get(name)
        was = _shown(before, name, hidden) if is_changed else None
        fields.append(ShownField(name, _shown(after, name, hidden), was))
    return fields


def _shown(state: dict[str, Any], name: str, hidden: Collection[str]) -> Document:
    if name not in state:
        return document(name, "", 0, MAX_VALUE_CHARACTERS)
    if name in hidden:
        return masked(name)
    try:
        text = msgspec.json.encode(state[name]).decode()
    except (TypeError, ValueError, RecursionError):
        # A value that is not JSON has no keys to mask. If values are hidden, show only its class.
        plain = type(state[name]).__qualname__ if hidden else repr(state[name])
        return Document(name, escape(plain[:MAX_VALUE_CHARACTERS]), min(len(plain), MAX_VALUE_CHARACTERS), len(plain))
    return document(name, text, len(text), MAX_VALUE_CHARACTERS, hidden)
