"""Admin pages of the outbox: its messages, their states, and the actions of an operator."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from es_django import conf, outbox
from es_django.admin.base import Fact, parsed_uuid
from es_django.admin.categories import SEARCHED_CATEGORIES, stored_categories
from es_django.admin.confirmation import ConfirmingAdmin, SelectedRow, username
from es_django.admin.filters import ColumnFilter
from es_django.admin.html import code, error_text, status_badge, time_element
from es_django.admin.masking import error_column, error_shown
from es_django.admin.position_by_time import first_keys_since
from es_django.admin.timeline import timeline_query
from es_django.models import OutboxMessage, Stream
from es_django.outbox.states import OPEN, MessageState, Transition

NEWEST = 10_000
"""How far back the list looks for messages that no index finds. An index for them would slow down every send."""
MOST_WITH_KEY = 1000
"""How many messages with one key each index may find. These are the newest."""


class DestinationFilter(ColumnFilter):
    """A filter by destination. It offers those in the settings, because a search in the table would read every row.

    Indexes find the open and the dead messages of a destination. Without such a status, the filter is applied to the
    newest messages that the other filters choose.
    """

    title: str = f"destination (without an open or dead status: of the newest {NEWEST:,})"
    parameter_name = "destination"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: "admin.ModelAdmin[Any]") -> None:
        self._status: str = request.GET.get("status", "")
        super().__init__(request, params, model, model_admin)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        status = {state.value: state.status for state in MessageState}.get(self._status, self._status)
        chosen = super().queryset(request, queryset)
        return chosen if status in (*OPEN, OutboxMessage.Status.DEAD) else chosen.filter(_among_newest(queryset))

    def offered_values(self) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(conf.settings().destinations)]


class StateFilter(ColumnFilter):
    """A filter by state. The URL may also contain a status."""

    title: str = "status"
    parameter_name = "status"

    def offered_values(self) -> list[tuple[str, str]]:
        return [(state.value, state.label) for state in MessageState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        state = {state.value: state for state in MessageState}.get(self.value() or "")
        if state is not None:
            return queryset.filter(state.query)
        # No index finds that a status has no rows.
        is_status = self.value() in (None, *OutboxMessage.Status.values)
        return super().queryset(request, queryset) if is_status else queryset.none()


class AgeFilter(ColumnFilter):
    """A filter by the age of a message. It compares ids, which grow with time and have an index."""

    title: str = "written"
    parameter_name = "age"
    ages: ClassVar[Mapping[str, tuple[str, timedelta]]] = {
        "hour": ("In the last hour", timedelta(hours=1)),
        "day": ("In the last day", timedelta(days=1)),
        "older-than-hour": ("More than an hour ago", timedelta(hours=1)),
        "older-than-day": ("More than a day ago", timedelta(days=1)),
    }

    def offered_values(self) -> list[tuple[str, str]]:
        return [(word, label) for word, (label, _) in self.ages.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        if chosen not in self.ages:
            return queryset.none()
        since = timezone.now() - self.ages[chosen][1]
        (first_key,) = first_keys_since(OutboxMessage, "created_at", [since], using=conf.settings().database)
        return queryset.filter(pk__lt=first_key) if chosen.startswith("older") else queryset.filter(pk__gte=first_key)


def _among_newest(queryset: QuerySet[Any]) -> Q:
    """Return the condition that a message is one of the newest of the queryset, by a range of primary keys."""
    newest = queryset.order_by("-pk").values_list("pk", flat=True).first() or 0
    return Q(pk__gt=newest - NEWEST, pk__lte=newest)


def _ids_with_key(key: str) -> list[int]:
    """Return the ids of messages with a key. Each query reads a range of one index."""
    using = conf.settings().database
    found = OutboxMessage.objects.using(using).filter(key=key)
    categories = stored_categories(using, SEARCHED_CATEGORIES)
    streams = Stream.objects.using(using).filter(category__in=categories, key=key)
    queries = [
        found.filter(status__in=OPEN, destination__in=list(conf.settings().destinations)),
        found.filter(stream__in=list(streams.values_list("pk", flat=True))),
        found.filter(_among_newest(OutboxMessage.objects.using(using))),
    ]
    # The newest of each, because a page shows the newest first.
    return [pk for each in queries for pk in each.order_by("-pk").values_list("pk", flat=True)[:MOST_WITH_KEY]]


@admin.register(OutboxMessage)
class OutboxMessageAdmin(ConfirmingAdmin[OutboxMessage]):
    list_display: tuple[str, ...] = ("status_and_shape", "type", "key", "destination", "attempts", "step")
    list_display_links: tuple[str, ...] = ("type",)
    # The filter by destination comes last, because it looks at the newest messages that the others choose.
    list_filter: ClassVar[tuple[type[admin.ListFilter], ...]] = (StateFilter, AgeFilter, DestinationFilter)
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    search_help_text: ClassVar[str] = (
        "Search by message id or complete key. A key finds open messages, messages from events of the stream with this "
        f"key, and others among the newest {NEWEST:,}."
    )
    documents: ClassVar[Mapping[str, str]] = {"data": "Data", "headers": "Headers"}
    actions: tuple[str, ...] = ("requeue", "release", "discard")

    @admin.display(description="status")
    def status_and_shape(self, message: OutboxMessage) -> SafeString:
        return status_badge(message.status)

    @admin.display(description="when")
    def step(self, message: OutboxMessage) -> SafeString:
        return format_html('<span class="es-step">{}</span> {}', *step_of(message))

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, error_column(request)]

    def search_lookups(self, term: str) -> Iterator[Q]:
        if (message_id := parsed_uuid(term.strip())) is not None:
            yield Q(message_id=message_id)
        yield Q(pk__in=_ids_with_key(term))

    def facts(self, request: HttpRequest, message: OutboxMessage) -> list[Fact]:
        label, time = step_of(message)
        return [
            ("Status", status_badge(message.status)),
            (label.capitalize(), time),
            ("Claimed by", message.claimed_by),
            ("Attempts", message.attempts),
            ("Last error", error_text(error_shown(request, message.last_error))),
            ("Destination", message.destination),
            ("Type", message.type),
            ("Key", message.key),
            ("Source", self._source(request, message)),
            ("Message id", code(message.message_id)),
            ("Created", time_element(message.created_at)),
        ]

    def _source(self, request: HttpRequest, message: OutboxMessage) -> object:
        if message.stream is None:
            return None
        version = message.stream_version
        text = f"{message.stream} at version {version}" if version else str(message.stream)
        place = timeline_query(version) if version else ""
        return self.link(request, Stream, message.stream.pk, text, query=place)

    # Actions, each with a confirmation and its own permission

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("es_django.requeue_outboxmessage")

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("es_django.release_outboxmessage")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("es_django.discard_outboxmessage")

    @admin.action(description="Requeue dead messages", permissions=["requeue"])
    def requeue(self, request: HttpRequest, chosen: QuerySet[OutboxMessage]) -> HttpResponse | None:
        return self._change_status(
            request,
            Transition.REQUEUE,
            outbox.requeue,
            title="Requeue messages?",
            explanation="The selected dead messages become due now, with their attempts set back to 0. They may "
            "arrive after later messages of the same key.",
            answer="Yes, requeue them",
        )

    @admin.action(description="Release waiting and claimed messages", permissions=["release"])
    def release(self, request: HttpRequest, chosen: QuerySet[OutboxMessage]) -> HttpResponse | None:
        return self._change_status(
            request,
            Transition.RELEASE,
            outbox.release,
            title="Release messages?",
            explanation="The selected pending and claimed messages become due now. A message that a relay is "
            "publishing at this moment may arrive twice.",
            answer="Yes, release them",
        )

    @admin.action(description="Discard pending and dead messages", permissions=["discard"])
    def discard(self, request: HttpRequest, chosen: QuerySet[OutboxMessage]) -> HttpResponse | None:
        return self._change_status(
            request,
            Transition.DISCARD,
            outbox.discard,
            title="Discard messages?",
            explanation="The selected pending and dead messages are never published. Later messages of the "
            "same key no longer wait for them.",
            answer="Yes, discard them",
        )

    def _change_status(
        self,
        request: HttpRequest,
        transition: Transition,
        operation: Callable[..., list[UUID]],
        **question: str,
    ) -> HttpResponse | None:
        rows = self.selected_rows(request)
        if not self.is_confirmed(request):
            selected = [SelectedRow(each, _as_shown(request, each)) for each in rows]
            return self.confirmation(request, rows=selected, **question)
        changed = set(operation([each.message_id for each in rows], by=username(request)))
        for each in rows:
            if each.message_id in changed:
                self.log_change(request, each, f"{transition.value.capitalize()}: was {each.status}")
        skipped = [each.pk for each in rows if each.message_id not in changed]
        self.message_user(
            request, f"{_messages(len(changed))} {transition.value}.", messages.SUCCESS if changed else messages.INFO
        )
        if skipped:
            statuses = self.get_queryset(request).filter(pk__in=skipped).values_list("status", flat=True)
            self.message_user(request, _why_skipped(len(skipped), statuses, transition), messages.WARNING)
        return None


def _messages(count: int) -> str:
    return "1 message was" if count == 1 else f"{count} messages were"


def _why_skipped(count: int, statuses: Iterable[str], transition: Transition) -> str:
    found = Counter(statuses)
    if gone := count - found.total():
        found["no longer there"] = gone
    reasons = ", ".join(f"{n} {'is' if n == 1 else 'are'} {status}" for status, n in sorted(found.items()))
    origins = " or ".join(sorted(transition.origins))
    return f"{_messages(count)} skipped: {reasons}; only {origins} messages can be {transition.value}."


def _as_shown(request: HttpRequest, message: OutboxMessage) -> str:
    key = f", key {message.key}" if message.key else ""
    error = f": {Truncator(error_shown(request, message.last_error)).chars(100)}" if message.last_error else ""
    return f"{message.get_status_display()}: {message}{key}, attempts {message.attempts}{error}"


def step_of(message: OutboxMessage) -> tuple[str, SafeString]:
    """Return the label and the value of the time that matters in the status of a message."""
    if message.claimed_until is not None:
        return "claimed until", time_element(message.claimed_until)
    if message.published_at is not None:
        return "published", time_element(message.published_at)
    if message.failed_at is not None:
        return "failed", time_element(message.failed_at)
    return "retry due" if message.attempts else "due", time_element(message.available_at)
