"""The relay claims, publishes and settles, in the order of each key, on every backend."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from pytest_django import Settings

from es_django import Message, StreamId, event_store, outbox
from es_django.errors import (
    DestinationRefuses,
    DestinationUnreachable,
    PayloadError,
    PublishError,
    StorageError,
    UnknownDestination,
)
from es_django.outbox import heartbeat
from es_django.outbox.backends import outbox_store
from es_django.outbox.circuit_breaker import SAME_PROBE
from es_django.outbox.heartbeat import THREAD_NAME
from es_django.outbox.port import OutboxStore
from es_django.outbox.publishers import Publisher
from es_django.outbox.relay import relay
from es_django.outbox.retry_policy import MANY
from es_django.outbox.states import OPEN, Status
from es_django.store.backends import store_for
from tests.outbox.published import Announced
from tests.outbox.rows import end_circuit_pauses, end_pauses, expire_leases, row, rows
from tests.publishers import Recorder

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder", "backend")]

DOWN = PublishError("down")
NEVER = PublishError("never", retryable=False)


def send(*keys: str | None) -> None:
    for number, key in enumerate(keys):
        outbox.send("tests", type="noted", data={"number": number}, key=key)


def numbers(messages: list[Message]) -> list[int]:
    return [message.data["number"] for message in messages]


def fails(*failing: int, error: PublishError = DOWN) -> Callable[[Message], PublishError | None]:
    return staticmethod(lambda message: error if message.data["number"] in failing else None)


def wait_until(happened: Callable[[], bool]) -> None:
    ended = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < ended
        time.sleep(0.005)


def send_full_batches(monkeypatch: pytest.MonkeyPatch, settings: Settings, *, batches: int) -> None:
    """Make `batches` full batches due, each larger than one call."""
    monkeypatch.setattr("es_django.outbox.relay.CALL_SIZE", 1)
    settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"BATCH_SIZE": 2}}
    send(*[None] * 2 * batches)


def other_connections() -> int:
    """Return the number of database connections of other threads."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


class Raising(Publisher):
    def publish(self, messages: object) -> list[None]:
        raise RuntimeError("no idea")


class Unreachable(Publisher):
    def publish(self, messages: object) -> list[None]:
        raise DestinationUnreachable("refused")


class NoOutcomes(Publisher):
    def publish(self, messages: object) -> list[None]:
        return []


class ReturnsNone(Publisher):
    def publish(self, messages: object) -> Any:
        return None


class ReturnsTrue(Publisher):
    def publish(self, messages: list[Message]) -> Any:  # type: ignore[override]
        return [True for message in messages]


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels > 1 else []


class TestRelay:
    def test_all_due_messages_are_published(self, recorder: type[Recorder]) -> None:
        send("k", None, "l", "k")
        assert relay() == 4
        assert sorted(numbers(recorder.published)) == [0, 1, 2, 3]
        assert {each.status for each in rows()} == {Status.PUBLISHED}
        assert relay() == 0

    def test_one_call_of_a_publisher_has_at_most_one_message_of_each_key(self, recorder: type[Recorder]) -> None:
        send("k", "l", "k", None, None, "k")
        relay()
        assert [numbers(call) for call in recorder.calls] == [[0, 1, 3, 4], [2], [5]]

    def test_one_call_of_a_publisher_has_a_limited_number_of_messages(
        self, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("es_django.outbox.relay.CALL_SIZE", 2)
        over = threading.Event()
        send(*[None] * 5)
        recorder.fail = staticmethod(lambda message: over.set())
        assert relay(is_stopped=over.is_set) == 2
        assert relay() == 3
        assert [len(call) for call in recorder.calls] == [2, 2, 1]

    def test_batches_of_several_destinations_are_published_in_turns(
        self, settings: Settings, recorder: type[Recorder]
    ) -> None:
        publisher = {"PUBLISHER": "tests.publishers.Recorder"}
        settings.ES_DJANGO = {"DESTINATIONS": {"a": publisher, "b": publisher}, "OUTBOX": {"BATCH_SIZE": 1}}
        for number, destination in enumerate("aabb"):
            outbox.send(destination, type="noted", data={"number": number})
        assert relay() == 4
        assert [message.destination for message in recorder.published] == ["a", "b", "a", "b"]

    def test_messages_that_were_not_sent_in_time_keep_their_attempts(self, recorder: type[Recorder]) -> None:
        send("k", "k", "l", "k")
        over = threading.Event()

        def end_soon(message: Message) -> None:
            over.set()

        recorder.fail = staticmethod(end_soon)
        assert relay(is_stopped=over.is_set) == 2
        assert numbers(recorder.published) == [0, 2]
        assert [each[:2] for each in rows()] == [
            (Status.PUBLISHED, 1),
            (Status.PENDING, 0),
            (Status.PUBLISHED, 1),
            (Status.PENDING, 0),
        ]
        assert relay(seconds=0) == 0
        assert relay() == 2
        assert numbers(recorder.published) == [0, 2, 1, 3]

    def test_relaying_inside_a_transaction_is_rejected(self, recorder: type[Recorder]) -> None:
        send("k")
        with pytest.raises(RuntimeError), store_for().transaction():
            relay()
        assert recorder.calls == []

    def test_unknown_destinations_are_rejected(self) -> None:
        with pytest.raises(UnknownDestination):
            relay("nowhere")

    def test_a_destination_without_a_working_publisher_does_not_stop_the_others(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.ES_DJANGO = {
            "DESTINATIONS": {"broken": {"PUBLISHER": "no.such.Publisher"}, **settings.ES_DJANGO["DESTINATIONS"]}
        }
        send("k")
        assert relay() == 1
        assert "the messages to broken could not be relayed" in caplog.text
        with pytest.raises(ImproperlyConfigured):
            relay("broken")

    def test_a_failing_database_is_reported_once_and_not_for_each_destination(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        recorder = settings.ES_DJANGO["DESTINATIONS"]["tests"]
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": recorder, "others": recorder}}

        def fail(*args: object, **options: object) -> None:
            raise StorageError("claim messages", True, "the server is starting up")

        monkeypatch.setattr(type(outbox_store()), "claim", fail)
        with pytest.raises(StorageError, match="starting up"):
            relay()
        assert caplog.records == []

    def test_a_settlement_is_tried_again_if_the_database_fails(
        self, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        send("k", "l")
        monkeypatch.setattr("es_django.outbox.relay.SETTLE_PAUSE", 0)
        store_class = type(outbox_store())
        settle = store_class.settle
        failures = [StorageError("settle messages", True, "the server is starting up")] * 3

        def fail_first(store: OutboxStore, worker: str, settlements: Any) -> Any:
            if failures:
                raise failures.pop()
            return settle(store, worker, settlements)

        monkeypatch.setattr(store_class, "settle", fail_first)
        assert relay() == 2
        assert relay() == 0
        assert len(recorder.published) == 2


class TestFailingMessages:
    def test_a_message_that_fails_twice_is_delivered_once(self, recorder: type[Recorder]) -> None:
        send("k")
        failures = [PublishError("one"), PublishError("two"), None]
        recorder.fail = staticmethod(lambda message: failures.pop(0))
        for attempts in (1, 2):
            assert relay() == 0
            assert row()[:2] == (Status.PENDING, attempts)
            end_pauses()
        assert relay() == 1
        assert len(recorder.published) == 1

    def test_a_failing_message_holds_back_its_own_key_only(self, recorder: type[Recorder]) -> None:
        send("k", "k", "l", "k")
        recorder.fail = fails(0)
        assert relay() == 1
        assert numbers(recorder.published) == [2]
        assert [each.attempts for each in rows()] == [1, 0, 1, 0]
        recorder.fail = fails()
        end_pauses()
        relay()
        assert numbers(recorder.published) == [2, 0, 1, 3]

    def test_later_messages_of_a_key_are_published_after_its_failing_message_is_dead(
        self, recorder: type[Recorder]
    ) -> None:
        send("k", "k", "k")
        recorder.fail = fails(0, error=NEVER)
        assert relay() == 2
        assert numbers(recorder.published) == [1, 2]
        assert [each.status for each in rows()] == [Status.DEAD, Status.PUBLISHED, Status.PUBLISHED]

    def test_a_message_that_kills_its_workers_becomes_dead_and_the_others_are_published(
        self, recorder: type[Recorder], settings: Settings
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"MAX_ATTEMPTS": 3}}
        send("k", "poison", "l", "poison")

        class Killed(BaseException):
            pass

        def die(message: Message) -> None:
            if message.data["number"] == 1:
                raise Killed

        recorder.fail = staticmethod(die)
        deaths = 0
        while any(each.status in OPEN for each in rows()):
            try:
                relay()
            except Killed:
                deaths += 1
                expire_leases()
        assert deaths == 3
        assert [each.status for each in rows()] == [Status.PUBLISHED, Status.DEAD, Status.PUBLISHED, Status.PUBLISHED]
        assert rows()[1][1:3] == (3, "all attempts are used up, and no attempt finished")

    def test_an_exhausted_message_becomes_dead_and_keeps_its_last_error(
        self, recorder: type[Recorder], settings: Settings
    ) -> None:
        send("k")
        recorder.fail = fails(0)
        relay()
        end_pauses()
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"MAX_ATTEMPTS": 1}}
        relay()
        assert row()[:3] == (Status.DEAD, 1, "down")
        assert len(recorder.calls) == 1

    def test_an_error_text_that_no_database_can_store_does_not_stop_the_others(self, recorder: type[Recorder]) -> None:
        send("k", "l", "m")
        recorder.fail = fails(0, error=PublishError("remote said \x00 and \udc80"))
        assert relay() == 2
        assert "remote said" in rows()[0].last_error

    def test_an_exception_as_the_reason_of_a_failure_is_stored_as_text(self, recorder: type[Recorder]) -> None:
        send("k", "l")
        recorder.fail = fails(0, error=PublishError(ValueError("a slip")))
        assert relay() == 1
        assert rows()[0].last_error == "a slip"

    @pytest.mark.parametrize(
        ("publisher", "reason"),
        [
            (Raising, "no idea"),
            (NoOutcomes, "NoOutcomes returned 0 outcomes for 2"),
            (ReturnsNone, "not iterable"),
            (ReturnsTrue, "ReturnsTrue returned bool as an outcome"),
        ],
    )
    def test_a_publisher_that_breaks_its_contract_fails_its_messages(
        self, publisher: type[Publisher], reason: str, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": f"{__name__}.{publisher.__name__}"}}}
        send("k", "l")
        assert relay() == 0
        for each in rows():
            assert each.status == Status.PENDING
            assert reason in each.last_error


class TestLostClaims:
    def test_a_publisher_that_is_slower_than_the_lease_keeps_its_claims(
        self, recorder: type[Recorder], settings: Settings
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"LEASE": 1}}
        send(None, None)

        def outlive_the_lease(message: Message) -> None:
            end_of_the_lease = time.monotonic() + 1.1
            wait_until(lambda: time.monotonic() > end_of_the_lease)
            assert outbox_store().claim("tests", "thief", limit=10, lease=30) == []
            recorder.fail = fails()

        recorder.fail = staticmethod(outlive_the_lease)
        assert relay() == 2
        assert {each[:2] for each in rows()} == {(Status.PUBLISHED, 1)}

    def test_a_relay_that_lost_its_claims_stops(self, recorder: type[Recorder], settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"LEASE": 0.3}}
        send("k", "k", "l", "l")
        thieves: list[str] = []

        def lose_the_claims(message: Message) -> None:
            if not thieves:
                expire_leases()
                thieves.append("thief")
                claimed = [outbox_store().claim("tests", "thief", limit=10, lease=60) for _ in range(4)]
                assert len([claim for claims in claimed for claim in claims]) >= 1
            wait_until(lambda: not any(thread.name == THREAD_NAME for thread in threading.enumerate()))

        recorder.fail = staticmethod(lose_the_claims)
        assert relay() == 0
        assert numbers(recorder.published) == [0, 2]
        assert {each.status for each in rows()} == {Status.CLAIMED}

    def test_a_message_that_an_operator_released_is_not_overtaken(
        self, recorder: type[Recorder], settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"LEASE": 0.3}}
        ids = [outbox.send("tests", type="noted", data={"number": number}, key="k") for number in range(3)]
        heartbeats: list[set[int]] = []
        store_class = type(outbox_store())
        extend = store_class.extend

        def noted(*args: Any, **kwargs: Any) -> set[int]:
            heartbeats.append(extend(*args, **kwargs))
            return heartbeats[-1]

        monkeypatch.setattr(store_class, "extend", noted)

        def release_the_next(message: Message) -> None:
            assert outbox.release([ids[1]], by="ada") == [ids[1]]
            recorder.fail = fails()
            wait_until(lambda: any(len(held) == 2 for held in heartbeats))

        recorder.fail = staticmethod(release_the_next)
        assert relay() == 3
        assert [numbers(call) for call in recorder.calls] == [[0], [1], [2]]
        assert [each.attempts for each in rows()] == [1, 2, 1]

    def test_a_relay_stops_renewing_the_claims_of_a_publisher_that_hangs(
        self,
        recorder: type[Recorder],
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"LEASE": 0.2}}
        monkeypatch.setattr(heartbeat, "PATIENCE", 2.0)
        send("k", "k")
        taken: list[int] = []

        def hang(message: Message) -> None:
            def others_can_have_it() -> bool:
                taken.extend(claim.attempts for claim in outbox_store().claim("tests", "b", limit=1, lease=60))
                return bool(taken)

            wait_until(others_can_have_it)

        recorder.fail = staticmethod(hang)
        with caplog.at_level(logging.ERROR):
            assert relay() == 0
        assert taken == [2]
        assert len(recorder.published) == 1, "the relay must publish no more messages of its batch"
        assert "has not returned for" in caplog.text

    def test_a_relay_whose_heartbeat_hangs_stops_when_its_lease_is_over(
        self, recorder: type[Recorder], settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"LEASE": 1}}
        send("k", "k")
        lease_is_over = threading.Event()
        monkeypatch.setattr(type(outbox_store()), "extend", lambda *args, **options: lease_is_over.wait(20) and set())

        def outlive_the_lease(message: Message) -> None:
            wait_until(lambda: len(outbox_store().claim("tests", "b", limit=1, lease=60)) == 1)
            lease_is_over.set()

        recorder.fail = staticmethod(outlive_the_lease)
        assert relay(seconds=5) == 0
        assert numbers(recorder.published) == [0]


class TestUnreachableDestinations:
    def test_an_outage_costs_no_attempts_and_is_logged_once(
        self, recorder: type[Recorder], settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"MAX_ATTEMPTS": 2}}
        send("k", "k", "l")
        recorder.fail = fails(0, 1, 2, error=DestinationUnreachable("refused"))
        for _ in range(5):
            assert relay() == 0
            end_circuit_pauses()
        assert rows() == [(Status.PENDING, 0, reason, True) for reason in ("refused", "", "refused")]
        assert [numbers(call) for call in recorder.calls] == [[0, 2], *[[0]] * 4]
        recorder.fail = fails()
        assert relay() == 3
        assert numbers(recorder.published) == [0, 1, 2]
        assert [record.getMessage() for record in caplog.records] == [
            "destination tests accepts no messages, and they wait: refused",
            "destination tests accepts messages again",
        ]

    def test_fault_b2_many_refusals_are_an_outage_and_few_are_attempts(
        self, recorder: type[Recorder], settings: Settings
    ) -> None:
        send(*[None] * MANY)
        recorder.fail = fails(*range(MANY), error=DestinationRefuses("the response had status 401"))
        assert relay() == 0
        assert [row.attempts for row in rows()] == [0] * MANY
        end_circuit_pauses()
        assert relay() == 0
        assert [row.attempts for row in rows()] == [0] * MANY
        recorder.fail = fails()
        end_circuit_pauses()
        assert relay() == MANY

    def test_fault_e4_a_destination_that_asks_for_a_pause_keeps_the_published_messages(
        self, recorder: type[Recorder]
    ) -> None:
        send(*[None] * 4)
        recorder.fail = fails(2, 3, error=DestinationUnreachable("429", is_certain=True))
        assert relay() == 2
        assert [(row.status, row.attempts) for row in rows()] == [(Status.PUBLISHED, 1)] * 2 + [(Status.PENDING, 0)] * 2

    def test_fault_e4_one_message_tests_a_destination_after_an_outage(self, recorder: type[Recorder]) -> None:
        send(*[None] * 4)
        recorder.fail = fails(0, 1, 2, 3, error=DestinationUnreachable("full"))
        relay()
        end_circuit_pauses()
        relay()
        assert [len(call) for call in recorder.calls] == [4, 1]

    def test_fault_e4_a_message_that_alone_looks_like_an_outage_does_not_stop_the_others(
        self, recorder: type[Recorder]
    ) -> None:
        send("poison", "innocent")
        for _ in range(SAME_PROBE):
            recorder.fail = fails(0, 1, error=DestinationUnreachable("full"))
            relay()
            end_circuit_pauses()
        recorder.fail = fails(0, error=DestinationUnreachable("full"))
        assert relay() == 1
        assert [row.status for row in rows()] == [Status.PENDING, Status.PUBLISHED]

    def test_an_open_circuit_does_not_affect_other_destinations(
        self, recorder: type[Recorder], settings: Settings
    ) -> None:
        publisher = {"PUBLISHER": "tests.publishers.Recorder"}
        settings.ES_DJANGO = {"DESTINATIONS": {"gone": publisher, "tests": publisher}}
        outbox.send("gone", type="noted", data={"number": 9})
        recorder.fail = fails(9, error=DestinationUnreachable("refused"))
        send("k")
        assert relay() == 1
        send("k")
        assert relay() == 1
        assert relay("gone") == 0
        assert [numbers(call) for call in recorder.calls] == [[9], [0], [0]]

    def test_an_outage_within_a_batch_keeps_the_published_messages_and_returns_the_rest(
        self, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("es_django.outbox.relay.CALL_SIZE", 2)
        send("k", "l", "m", "n", "o", "p")
        recorder.fail = fails(2, 3, error=DestinationUnreachable("refused"))
        assert relay() == 2
        assert [numbers(call) for call in recorder.calls] == [[0, 1], [2, 3]]
        assert [each[:2] for each in rows()] == [(Status.PUBLISHED, 1)] * 2 + [(Status.PENDING, 0)] * 4

    @pytest.mark.parametrize("other", [None, DOWN])
    def test_a_destination_that_answers_for_one_message_counts_as_reached(
        self, recorder: type[Recorder], other: PublishError | None
    ) -> None:
        outcomes = {0: other, 1: DestinationUnreachable("refused")}
        recorder.fail = staticmethod(lambda message: outcomes[message.data["number"]])
        send("k", "l")
        relay()
        assert rows()[1] == (Status.PENDING, 1, "refused", False)
        outcomes[1] = None
        end_pauses()
        assert relay() >= 1, "the circuit of the destination must be closed"

    def test_a_publisher_that_raises_destination_unreachable_costs_no_attempt(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": f"{__name__}.Unreachable"}}}
        send("k", "l")
        assert relay() == 0
        assert rows() == [(Status.PENDING, 0, "refused", True)] * 2


class TestSecondWorker:
    @pytest.mark.requires_postgresql
    def test_two_threads_publish_while_full_batches_are_due(
        self, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        send_full_batches(monkeypatch, settings, batches=5)
        both = threading.Barrier(2)
        publishing: set[int] = set()

        def meet(message: Message) -> None:
            if message.data["number"] > 1:
                both.wait(20)
            publishing.add(threading.get_ident())

        recorder.fail = staticmethod(meet)
        assert relay() == 10
        assert len(publishing) == 2
        assert {each[:2] for each in rows()} == {(Status.PUBLISHED, 1)}

    @pytest.mark.requires_sqlite
    def test_one_thread_publishes_if_the_store_is_not_concurrent(
        self, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        send_full_batches(monkeypatch, settings, batches=3)
        publishing: set[int] = set()
        recorder.fail = staticmethod(lambda message: publishing.add(threading.get_ident()))
        assert relay() == 6
        assert publishing == {threading.get_ident()}

    @pytest.mark.requires_postgresql
    def test_a_stopped_relay_returns_the_unsent_messages_of_both_threads(
        self, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        send_full_batches(monkeypatch, settings, batches=4)
        both = threading.Barrier(2)
        over = threading.Event()

        def stop_together(message: Message) -> None:
            if message.data["number"] > 1:
                both.wait(20)
                over.set()

        recorder.fail = staticmethod(stop_together)
        assert relay(is_stopped=over.is_set) == 4
        assert sorted(each[:2] for each in rows()) == [(Status.PENDING, 0)] * 4 + [(Status.PUBLISHED, 1)] * 4

    @pytest.mark.requires_postgresql
    @pytest.mark.parametrize("failing", ["first", "second"])
    def test_a_failure_of_either_thread_is_raised_and_leaves_no_claims(
        self, failing: str, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        send_full_batches(monkeypatch, settings, batches=4)
        both = threading.Barrier(2)
        first = threading.get_ident()
        store_class = type(outbox_store())
        settle = store_class.settle

        def meet(message: Message) -> None:
            if 1 < message.data["number"] < 6:
                both.wait(20)

        def fail(store: OutboxStore, worker: str, settlements: Any) -> Any:
            outcomes = settle(store, worker, settlements)
            is_first = threading.get_ident() == first
            if settlements[0].claim.message.data["number"] > 1 and is_first == (failing == "first"):
                raise StorageError("settle messages", False, "no idea")
            return outcomes

        recorder.fail = staticmethod(meet)
        monkeypatch.setattr(store_class, "settle", fail)
        with pytest.raises(StorageError, match="no idea"):
            relay()
        wait_until(lambda: all(each.status is not Status.CLAIMED for each in rows()))
        wait_until(lambda: other_connections() == 0)


class TestContentOfMessages:
    def test_a_publication_can_return_no_message_or_set_every_field(self, recorder: type[Recorder]) -> None:
        stream = StreamId("ledger", "l-1")
        event_store.append(
            stream, [Announced(text="secret"), Announced(text="in full"), Announced(text="news")], expected=0
        )
        relay()
        first, second = recorder.published
        assert (first.type, first.data, first.key, first.stream_version) == (
            "announced.in_full",
            ["in full"],
            "own key",
            2,
        )
        assert first.headers["own"] == "header"
        assert (second.type, second.key, second.stream_version) == ("tests.announced", "l-1", 3)

    @pytest.mark.parametrize("headers", [{"version": 1}, {1: "x"}])
    def test_headers_that_are_not_text_are_rejected(self, headers: Any) -> None:
        with pytest.raises(PayloadError, match="must be a string"):
            outbox.send("tests", type="noted", data=None, headers=headers)
        assert rows() == []

    def test_data_with_100_nested_levels_is_accepted(self) -> None:
        outbox.send("tests", type="noted", data=nested(100))
        assert len(rows()) == 1

    @pytest.mark.parametrize("levels", [101, 150])
    def test_data_with_more_nested_levels_is_rejected(self, levels: int) -> None:
        with pytest.raises(PayloadError, match="nested more than 100 levels"):
            outbox.send("tests", type="noted", data=nested(levels))
        outbox.send("tests", type="noted", data=[["[{" * 200, {}] for _ in range(200)])
        assert len(rows()) == 1
