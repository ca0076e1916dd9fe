"""Filters whose choices come without a query on the filtered table."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest


class ColumnFilter(admin.SimpleListFilter):
    """A filter by the exact value of the column `parameter_name`. The URL may contain a value that is not offered."""

    parameter_name: str
    template = "es_django/admin/includes/filter.html"

    def offered_values(self) -> Sequence[tuple[str, str]]:
        """Return the offered values with their labels."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        offered, chosen = list(self.offered_values()), self.value()
        if chosen is not None and chosen not in dict(offered):
            offered.append((chosen, chosen))
        return offered

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        # PostgreSQL refuses a query with a null character.
        return queryset.none() if "\x00" in chosen else queryset.filter(**{self.parameter_name: chosen})


class StatusFilter(ColumnFilter):
    """A filter by status, for a model with a `Status` enum."""

    title: str = "status"
    parameter_name = "status"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: "admin.ModelAdmin[Any]") -> None:
        self.statuses: Sequence[tuple[str, str]] = model.Status.choices
        super().__init__(request, params, model, model_admin)

    def offered_values(self) -> Sequence[tuple[str, str]]:
        return list(self.statuses)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # No index finds that a status has no rows.
        is_status = self.value() in (None, *dict(self.statuses))
        return super().queryset(request, queryset) if is_status else queryset.none()
