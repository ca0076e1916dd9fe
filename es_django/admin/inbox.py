"""The inbox: which consumer has handled which message, and which messages it would not."""

from collections.abc import Iterator

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from es_django.admin.elements import code, error_text, moment, status_badge
from es_django.admin.filters import StatusFilter
from es_django.admin.readonly import Fact, ReadOnlyAdmin
from es_django.models import InboxReceipt


@admin.register(InboxReceipt)
class InboxReceiptAdmin(ReadOnlyAdmin[InboxReceipt]):
    list_display = ["status_and_shape", "message_id", "consumer", "attempts", "handled", "error"]
    list_display_links = ["message_id"]
    list_filter = [StatusFilter]
    ordering = ["-id"]
    search_help_text = "A whole message id."
    documents = {"message": "Message"}

    @admin.display(description="status")
    def status_and_shape(self, receipt: InboxReceipt) -> SafeString:
        return status_badge(receipt.status)

    @admin.display(description="handled")
    def handled(self, receipt: InboxReceipt) -> SafeString:
        return moment(receipt.handled_at)

    @admin.display(description="last error")
    def error(self, receipt: InboxReceipt) -> str:
        return Truncator(receipt.last_error).chars(100)

    def readings(self, term: str) -> Iterator[Q]:
        yield Q(message_id=term.strip())

    def facts(self, request: HttpRequest, receipt: InboxReceipt) -> list[Fact]:
        return [
            ("Status", status_badge(receipt.status)),
            ("Handled", moment(receipt.handled_at)),
            ("Attempts", receipt.attempts),
            ("Last error", error_text(receipt.last_error)),
            ("Consumer", receipt.consumer),
            ("Message id", code(receipt.message_id)),
        ]
