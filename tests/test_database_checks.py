"""Checks of the database say nothing about a database that they cannot look at: other checks and errors do."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.db import OperationalError, connection
from pytest_django import Settings

from es_django.database_checks import check_append_only, check_order, check_pooler

CHECKS: list[Callable[..., list[CheckMessage]]] = [check_append_only, check_order, check_pooler]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.parametrize("check", CHECKS)]


class TestSilence:
    @pytest.mark.parametrize("databases", [None, [], ["other"]])
    def test_a_database_that_is_not_to_be_checked_is_left_alone(
        self, check: Callable[..., list[CheckMessage]], databases: list[str] | None
    ) -> None:
        with connection.execute_wrapper(_refuse):
            assert check(databases=databases) == []

    def test_wrong_settings_are_left_to_their_own_check(
        self, check: Callable[..., list[CheckMessage]], settings: Settings
    ) -> None:
        settings.ES_DJANGO = {"DATABASE": 7}
        assert check(databases=["default"]) == []

    def test_a_database_that_fails_is_left_to_the_first_use(
        self, check: Callable[..., list[CheckMessage]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "ensure_connection", _refuse)
        with connection.execute_wrapper(_refuse):
            assert check(databases=["default"]) == []

    def test_a_healthy_database_has_no_finding(self, check: Callable[..., list[CheckMessage]]) -> None:
        assert check(databases=["default"]) == []


def _refuse(*args: Any) -> None:
    raise OperationalError("refused")
