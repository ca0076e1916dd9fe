from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from es_django import StreamId
from es_django.admin import EventHistoryMixin
from testproject.bank.aggregates import Account
from testproject.bank.models import Balance, LedgerEntry, StatementLine


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # has no type parameter at run time
    """The admin of a read model. Projections write read models, so the admin never edits them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Balance)
class BalanceAdmin(EventHistoryMixin, ReadOnlyAdmin):
    list_display = ["account", "owner", "balance"]
    search_fields = ["account__exact"]

    def event_stream(self, obj: Balance) -> StreamId:
        return StreamId(Account.category, obj.account)


@admin.register(StatementLine)
class StatementLineAdmin(ReadOnlyAdmin):
    list_display = ["account", "version", "type", "amount", "balance", "at"]
    ordering = ["-position"]
    search_fields = ["account__exact"]


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ["account", "amount", "message_id"]
    search_fields = ["account__exact"]
