"""A relay that is killed loses no message, keeps the order of each key, and repeats only unsettled messages."""

from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from pytest_django import Settings

from es_django.outbox.database import DatabaseOutbox
from es_django.outbox.relay import relay
from es_django.outbox.sql import postgresql, sqlite
from es_django.outbox.states import Status
from tests.crash.deliveries import Notes, assert_each_key_is_in_order, counts, deliveries, noting, send
from tests.outbox.rows import expire_leases, rows
from tests.processes import die, run_processes

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = ["k", "l", None, "k", "k"]
"""The relay publishes these messages in three waves: first three messages, and then one message of "k" in each wave."""
ONCE = [1, 1, 1, 1, 1]
TWICE = [2, 2, 2, 2, 2]


def before(cls: type, method: str) -> None:
    setattr(cls, method, lambda *args, **kwargs: die())


def after(cls: type, method: str) -> None:
    original = getattr(cls, method)

    def call_and_die(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        die()

    setattr(cls, method, call_and_die)


def after_statement(name: str) -> None:
    statements = {getattr(postgresql, name), getattr(sqlite, name)}

    def execute_and_die(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql in statements:
            die()
        return result

    connection.execute_wrappers.append(execute_and_die)


POINTS: dict[str, tuple[Callable[[], None], Status, list[int]]] = {
    "in the claim": (lambda: after_statement("CLAIM"), Status.PENDING, ONCE),
    "after the claim": (lambda: after(DatabaseOutbox, "claim"), Status.CLAIMED, ONCE),
    "within a wave": (lambda: after(Notes, "deliver"), Status.CLAIMED, [2, 1, 1, 1, 1]),
    "after the first wave": (lambda: after(Notes, "publish"), Status.CLAIMED, [2, 2, 2, 1, 1]),
    "before settling": (lambda: before(DatabaseOutbox, "settle"), Status.CLAIMED, TWICE),
    "in settling": (lambda: after_statement("SETTLE"), Status.CLAIMED, TWICE),
    "after settling": (lambda: after(DatabaseOutbox, "settle"), Status.PUBLISHED, ONCE),
}
"""For each point: the function that dies there, the status of the messages then, and the final deliveries of each."""


def relay_and_die(barrier: Barrier, es_django: dict[str, Any], point: str) -> None:
    override_settings(ES_DJANGO=es_django).enable()
    POINTS[point][0]()
    relay()


class TestKilledRelay:
    @pytest.mark.parametrize("point", POINTS)
    def test_a_killed_relay_loses_no_message_and_repeats_only_unsettled_ones(
        self, point: str, settings: Settings, tmp_path: Path
    ) -> None:
        noted = tmp_path / "deliveries"
        settings.ES_DJANGO = noting(noted)
        send(KEYS)
        with pytest.raises(RuntimeError, match="exit code -9"):
            run_processes(relay_and_die, [(settings.ES_DJANGO, point)])
        _, status, expected = POINTS[point]
        assert [row.status for row in rows()] == [status] * 5
        if status is Status.CLAIMED:
            assert relay() == 0, "the claims of the killed relay must exclude other relays until they expire"
            expire_leases()
        relay()
        assert {row.status for row in rows()} == {Status.PUBLISHED}
        assert counts(noted) == expected
        assert_each_key_is_in_order(deliveries(noted))
