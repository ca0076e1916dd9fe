"""Keyset pagination: the last page of a list costs as much as the first one.

`COUNT(*)` and `OFFSET` would read the whole table, and these tables are the largest in a project.
"""

from collections.abc import Sequence
from typing import Any, cast

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.db.models import BooleanField, F, Field, Func, Model, QuerySet, Value
from django.db.models.lookups import GreaterThan, LessThan
from django.http import HttpRequest

AFTER, BEFORE = "after", "before"


class KeysetChangeList(ChangeList):
    """A change list that is sorted and paged by the `ordering` of its admin class.

    `ordering` names columns of one index, all in the same direction. In the URL, `after=` names the last row of the
    previous page, and `before=` the first row of the next page. Each has one value for each column of `ordering`.
    """

    first_link: str | None = None
    previous_link: str | None = None
    next_link: str | None = None

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        # `after` and `before` are not filters. Links to other filters must lead to the first page, without them.
        for name in (AFTER, BEFORE):
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        return list(self.model_admin.ordering or ())

    def get_ordering_field_columns(self) -> Any:
        return {}

    def get_results(self, request: HttpRequest) -> None:
        after, before = self._edge(request, AFTER), self._edge(request, BEFORE)
        rows: QuerySet[Any] = self.queryset
        if before:
            rows = rows.reverse().filter(self._beyond(before, backwards=True))
        elif after:
            rows = rows.filter(self._beyond(after))
        # Read one row beyond the page: if that row exists, there is another page.
        found: list[Any] = list(rows[: self.list_per_page + 1])
        more, shown = len(found) > self.list_per_page, found[: self.list_per_page]
        if before:
            shown.reverse()
        if shown and (more or before):
            self.next_link = self._link(AFTER, shown[-1])
        if shown and (after or (before and more)):
            self.previous_link = self._link(BEFORE, shown[0])
        if after or before:
            self.first_link = self.get_query_string()
        self.result_list = shown
        self.result_count: int = len(shown)
        self.full_result_count: int | None = self.result_count
        self.show_full_result_count: bool = False
        self.show_admin_actions: bool = True
        self.can_show_all = self.multi_page = False

    @property
    def search_cleared(self) -> str:
        return self.get_query_string(remove=[SEARCH_VAR])

    @property
    def _columns(self) -> list[str]:
        return [str(name).lstrip("-") for name in self.model_admin.ordering or ()]

    def _beyond(self, edge: Sequence[Value], *, backwards: bool = False) -> GreaterThan | LessThan:
        descending = str(self.model_admin.ordering[0]).startswith("-")  # type: ignore[index]
        comparison = LessThan if descending != backwards else GreaterThan
        # Compare whole rows, (a, b) < (x, y): only then do both databases start the index scan at the edge.
        return comparison(_row([F(name) for name in self._columns]), _row(edge))

    def _edge(self, request: HttpRequest, name: str) -> list[Value]:
        texts = request.GET.getlist(name)
        if texts and len(texts) != len(self._columns):
            raise IncorrectLookupParameters(f"{name} needs one value for each of {self._columns}")
        return [
            Value(_parsed(self._field(column), text), output_field=self._field(column))
            for column, text in zip(self._columns, texts, strict=False)
        ]

    def _field(self, column: str) -> "Field[Any, Any]":
        return cast("Field[Any, Any]", self.lookup_opts.get_field(column))

    def _link(self, name: str, row: Model) -> str:
        return self.get_query_string({name: [getattr(row, self._field(column).attname) for column in self._columns]})


def _row(expressions: Sequence[Any]) -> Func:
    return Func(*expressions, template="(%(expressions)s)", output_field=BooleanField())


def _parsed(field: "Field[Any, Any]", text: str) -> Any:
    try:
        return column_value(field, text)
    except ValidationError as error:
        raise IncorrectLookupParameters(error) from error


def column_value(field: "Field[Any, Any]", text: str) -> Any:
    """Convert `text` from a URL to a value of a column.

    Raise `ValidationError` if the column cannot hold the value: a query with such a value would fail.
    """
    if "\x00" in text:
        raise ValidationError("columns cannot hold null characters")
    column: Field[Any, Any] = getattr(field, "target_field", field)
    value = column.to_python(text)
    column.run_validators(value)
    return value
