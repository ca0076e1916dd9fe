"""Admin pages of the inbox: the messages that each consumer has handled, and its dead messages."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from es_django.admin.base import Fact
from es_django.admin.confirmation import ConfirmingAdmin, SelectedRow
from es_django.admin.filters import StatusFilter
from es_django.admin.html import code, error_text, status_badge, time_element
from es_django.admin.masking import error_column, error_shown
from es_django.core.serialization import storable_text
from es_django.inbox.errors import NotReplayable
from es_django.messages.cloudevents import message_id_of
from es_django.models import InboxReceipt


@admin.register(InboxReceipt)
class InboxReceiptAdmin(ConfirmingAdmin[InboxReceipt]):
    list_display: tuple[str, ...] = (
        *("status_and_shape", "message_id", "consumer"),
        *("attempts", "next_attempt", "handled"),
    )
    list_display_links: tuple[str, ...] = ("message_id",)
    list_filter: ClassVar[tuple[type[admin.ListFilter], ...]] = (StatusFilter,)
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    search_help_text: ClassVar[str] = "A complete message id, or the source and the id of a CloudEvent: /shop 17."
    documents: ClassVar[Mapping[str, str]] = {"message": "Message"}
    actions: tuple[str, ...] = ("replay_selected",)

    @admin.display(description="status")
    def status_and_shape(self, receipt: InboxReceipt) -> SafeString:
        return status_badge(receipt.status)

    @admin.display(description="next attempt")
    def next_attempt(self, receipt: InboxReceipt) -> SafeString | str:
        if receipt.status != InboxReceipt.Status.RETRYING or receipt.retry_at is None:
            return ""
        return time_element(receipt.retry_at)

    @admin.display(description="handled")
    def handled(self, receipt: InboxReceipt) -> SafeString | str:
        return "" if receipt.retry_at is not None else time_element(receipt.handled_at)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, error_column(request)]

    def search_lookups(self, term: str) -> Iterator[Q]:
        term = term.strip()
        source, _, given_id = term.partition(" ")
        if given_id:
            yield Q(message_id=str(message_id_of(source, given_id.strip())))
        yield Q(message_id=term)

    def facts(self, request: HttpRequest, receipt: InboxReceipt) -> list[Fact]:
        return [
            ("Status", status_badge(receipt.status)),
            ("Handled", self.handled(receipt)),
            ("Next attempt", self.next_attempt(receipt)),
            ("Attempts", receipt.attempts),
            ("Last error", error_text(error_shown(request, receipt.last_error))),
            ("Consumer", receipt.consumer),
            ("Message id", code(receipt.message_id)),
            ("Refused", "Other content with this message id was handled before." if receipt.conflict else ""),
        ]

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("es_django.replay_inboxreceipt"))

    @admin.action(permissions=["replay"], description="Replay the selected dead messages")
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[InboxReceipt]) -> TemplateResponse | None:
        receipts = self.selected_rows(request)
        if self.is_confirmed(request):
            self._replay(request, receipts)
            return None
        return self.confirmation(
            request,
            title="Replay dead messages",
            explanation="The handlers of these messages run again now. Messages that are not dead are skipped.",
            rows=[SelectedRow(each, f"{each.get_status_display()}: {each}") for each in receipts],
            answer="Yes, replay them",
        )

    def _replay(self, request: HttpRequest, receipts: list[InboxReceipt]) -> None:
        from es_django.inbox.replay import replay

        counts = {"replayed": 0, "failed again": 0, "skipped": 0}
        for receipt in receipts:
            try:
                replay(receipt.consumer, receipt.message_id, conflict=receipt.conflict)
            except NotReplayable as error:
                counts["skipped"] += 1
                self.message_user(request, f"Message {receipt} was skipped: {error.reason}.", messages.WARNING)
                continue
            except Exception as error:
                counts["failed again"] += 1
                result = "failed again"
                reason = Truncator(error_shown(request, storable_text(error))).chars(300)
                self.message_user(request, f"Message {receipt} failed again: {reason}", messages.ERROR)
            else:
                counts["replayed"] += 1
                result = "handled"
            self.log_change(request, receipt, f"Replayed: {result}")
        summary = ", ".join(f"{count} {what}" for what, count in counts.items())
        self.message_user(request, f"Dead messages: {summary}.", messages.SUCCESS)
