"""The events of one stream, in pages.

Versions run from 1 without a gap, so a page is a range of versions. The index finds the range directly, without
counting rows.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.db.models import QuerySet
from django.db.models.fields.json import KT
from django.utils.safestring import SafeString

from es_django import conf
from es_django.admin.html import time_element
from es_django.admin.json_text import MASK, Document, document, stored_text
from es_django.admin.users import names_of, shown_user
from es_django.models import StoredEvent, Stream

EVENTS_PER_PAGE = 25
MAX_PREVIEW_CHARACTERS = 4_000
VERSIONS_PER_SEARCH = 2_000
EVENTS_SAMPLED_FOR_TYPES = 500


class ShownEvent(msgspec.Struct, frozen=True):
    position: int
    version: int
    type: str
    schema_version: int
    recorded_at: SafeString
    causes: Sequence[tuple[str, str]]
    payload: Document


class Timeline:
    """A page of a stream's events. In the URL, `from` is its first version; with `order=newest` it runs downwards.

    With a `type`, the page shows only events of that type. No index covers types, so the page searches only the next
    `VERSIONS_PER_SEARCH` versions. The searched versions are `first` to `last`.
    """

    def __init__(self, stream: Stream, query: Mapping[str, str], hidden_keys: Callable[[str], Collection[str]]) -> None:
        self.stream = stream
        self._hidden_keys = hidden_keys
        self.total: int = stream.version
        self.newest_first: bool = query.get("order") == "newest"
        self.type: str = query.get("type", "").replace("\x00", "")
        start = whole_number(query.get("from"), default=self.total if self.newest_first else 1)
        start = max(1, min(start, self.total))
        span = VERSIONS_PER_SEARCH if self.type else EVENTS_PER_PAGE
        self.first: int
        self.last: int
        if self.newest_first:
            self.first, self.last = max(1, start - span + 1), start
        else:
            self.first, self.last = start, min(self.total, start + span - 1)
        self.events: list[ShownEvent] = self._events() if self.total else []

    def _events(self) -> list[ShownEvent]:
        stored = self._stored.filter(version__gte=self.first, version__lte=self.last)
        if self.type:
            stored = stored.filter(type=self.type)
        rows = list(
            stored.order_by("-version" if self.newest_first else "version").values(
                "position",
                "version",
                "type",
                "schema_version",
                "recorded_at",
                "correlation_id",
                "causation_id",
                user=KT("metadata__user"),
                **stored_text("data", MAX_PREVIEW_CHARACTERS),
            )[: EVENTS_PER_PAGE + 1]
        )
        shown = rows[:EVENTS_PER_PAGE]
        if len(rows) > len(shown):
            edge = shown[-1]["version"]
            self.first, self.last = (edge, self.last) if self.newest_first else (self.first, edge)
        names = names_of(row["user"] for row in shown if row["user"])
        return [_shown(row, self._hidden_keys(row["type"]), names) for row in shown]

    @cached_property
    def types(self) -> list[str]:
        """The event types in the filter: those of the newest events, and the selected type."""
        newest = self._stored.order_by("-version").values_list("type", flat=True)[:EVENTS_SAMPLED_FOR_TYPES]
        return sorted({*newest, *([self.type] if self.type else [])})

    @property
    def has_pages(self) -> bool:
        return self.total > EVENTS_PER_PAGE

    @property
    def previous_link(self) -> str | None:
        """The link to the previous page. With a filter, pages differ in length, so the link leads to the first page."""
        if self.newest_first:
            start = self.total if self.type else self.last + EVENTS_PER_PAGE
            return self._link(start) if self.last < self.total else None
        start = 1 if self.type else max(1, self.first - EVENTS_PER_PAGE)
        return self._link(start) if self.first > 1 else None

    @property
    def next_link(self) -> str | None:
        if self.newest_first:
            return self._link(self.first - 1) if self.first > 1 else None
        return self._link(self.last + 1) if self.last < self.total else None

    @property
    def oldest_first_link(self) -> str:
        return f"?{urlencode(self._filter)}"

    @property
    def newest_first_link(self) -> str:
        return f"?{urlencode({**self._filter, 'order': 'newest'})}"

    @property
    def _filter(self) -> dict[str, str]:
        return {"type": self.type} if self.type else {}

    @property
    def _stored(self) -> QuerySet[StoredEvent]:
        return StoredEvent.objects.using(conf.settings().database).filter(stream=self.stream)

    def _link(self, start: int) -> str:
        order = {"order": "newest"} if self.newest_first else {}
        return f"?{urlencode({**self._filter, **order, 'from': start})}"


def timeline_query(version: int) -> str:
    """Return the URL query and fragment that show one event on the page of its stream."""
    return f"?from={version - (version - 1) % EVENTS_PER_PAGE}#v{version}"


def _shown(row: Mapping[str, Any], hidden: Collection[str], names: dict[str, str]) -> ShownEvent:
    user = MASK if row["user"] and "user" in hidden else shown_user(row["user"] or "", names)
    causes = (("User", user), ("Correlation", row["correlation_id"]), ("Causation", row["causation_id"]))
    return ShownEvent(
        row["position"],
        row["version"],
        row["type"],
        row["schema_version"],
        time_element(row["recorded_at"], precise=True),
        [(label, value) for label, value in causes if value],
        document(
            f"Payload of version {row['version']}", row["data_text"], row["data_length"], MAX_PREVIEW_CHARACTERS, hidden
        ),
    )


def whole_number(text: str | None, *, default: int) -> int:
    """Return the integer in a URL, or `default` if the text is not an integer."""
    try:
        return int(text or "")
    except ValueError:
        return default
