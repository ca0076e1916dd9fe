"""Claims and their settlement on every backend, on the store's clock."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from uuid import UUID, uuid4

import msgspec
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from es_django import ConcurrencyError, Event, Message, Repository, StreamId, event_store, outbox
from es_django.errors import ClaimLost, DuplicateMessage, PayloadError, PublishError, UnknownDestination
from es_django.models import OutboxMessage
from es_django.outbox.backends import outbox_store
from es_django.outbox.port import Claim, Settlement
from es_django.outbox.states import Status
from es_django.store.backends import store_for
from es_django.store.hooks import message_sources
from tests.domain import Ledger
from tests.outbox.published import Announced
from tests.outbox.rows import end_pauses, expire_leases, row, rows
from tests.processes import run_processes
from tests.publishers import Recorder
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder", "backend")]

LEASE = 30.0
DOWN = PublishError("down")
NEVER = PublishError("never", retryable=False)


def send(*keys: str | None) -> None:
    for number, key in enumerate(keys):
        outbox.send("tests", type="noted", data={"number": number}, key=key)


def claim(worker: str = "a", *, limit: int = 100, lease: float = LEASE) -> list[Claim]:
    return outbox_store().claim("tests", worker, limit=limit, lease=lease)


def settle(worker: str, *settlements: Settlement) -> list[bool]:
    """Settle claims, and return for each one whether the worker still held it."""
    lost_claims = outbox_store().settle(worker, settlements)
    assert all(lost is None or isinstance(lost, ClaimLost) for lost in lost_claims)
    return [lost is None for lost in lost_claims]


def returned(*claims: Claim) -> list[Settlement]:
    return [Settlement(claim, tried=False) for claim in claims]


def numbers(claims: list[Claim]) -> list[int]:
    return [each.message.data["number"] for each in claims]


def statuses() -> list[Status]:
    return [each.status for each in rows()]


def claim_impatiently() -> list[Claim]:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    return claim("b")


def settle_backwards(claims: list[Claim]) -> None:
    settle("a", *[Settlement(claim) for claim in reversed(claims)])


def renew_backwards(claims: list[Claim]) -> None:
    outbox_store().extend("a", claims[::-1], lease=LEASE)


def is_awaited(pid: int) -> bool:
    """Return whether another connection waits for a lock of the connection with this process id."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND %s = ANY (pg_blocking_pids(pid))", [pid])
        return bool(cursor.fetchall())


def claim_all(barrier: Barrier, worker: str) -> list[int]:
    Recorder.reset()
    taken: list[int] = []
    barrier.wait()
    while claimed := outbox_store().claim("tests", worker, limit=7, lease=60):
        taken.extend(each.id for each in claimed)
    return taken


class TestSend:
    def test_a_sent_message_is_pending_and_its_claim_has_the_same_content(self) -> None:
        given = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
        data = {"ä": [1, None, {"deep": "x"}]}
        outbox.send("tests", type="noted", data=data, key="k", headers={"trace": "1"}, message_id=given)
        assert row() == (Status.PENDING, 0, "", True)
        (claimed,) = claim()
        message = claimed.message
        assert (message.message_id, message.type, message.key, message.destination) == (given, "noted", "k", "tests")
        assert (message.data, message.headers, message.stream, claimed.attempts) == (data, {"trace": "1"}, None, 1)

    def test_a_rolled_back_transaction_leaves_no_message(self) -> None:
        with pytest.raises(KeyError), store_for().transaction():
            send("k")
            raise KeyError
        assert claim() == []

    def test_unknown_destinations_are_rejected(self) -> None:
        with pytest.raises(UnknownDestination, match=r"no destination 'nowhere'.*configured: tests"):
            outbox.send("nowhere", type="noted", data={})
        assert rows() == []

    @pytest.mark.parametrize("bad", [{"type": ""}, {"type": "x" * 256}, {"type": "noted", "key": " "}])
    def test_blank_and_too_long_types_and_keys_are_rejected(self, bad: dict[str, str]) -> None:
        with pytest.raises(ValueError, match="1 to 255 characters"):
            outbox.send("tests", data={}, **bad)  # type: ignore[arg-type]
        assert rows() == []

    @pytest.mark.parametrize("data", [{"at": float("nan")}, "a\x00b", "\ud800", object()])
    def test_data_that_json_cannot_represent_is_rejected(self, data: object) -> None:
        with pytest.raises(PayloadError, match="noted"):
            outbox.send("tests", type="noted", data=data)
        assert rows() == []

    def test_messages_over_the_size_limit_are_rejected(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"MAX_BYTES": 10}}
        outbox.send("tests", type="noted", data="x" * 8)
        with pytest.raises(PayloadError, match='has 11 bytes of data, more than the 10 of ES_DJANGO\\["OUTBOX"'):
            outbox.send("tests", type="noted", data="x" * 9)
        with pytest.raises(PayloadError, match="has 12 bytes"):
            outbox.send("tests", type="noted", data="ä" * 5)
        assert len(rows()) == 1

    def test_a_duplicate_message_id_is_rejected_and_the_transaction_stays_usable(self) -> None:
        first = outbox.send("tests", type="noted", data={"number": 0})
        with store_for().transaction():
            with pytest.raises(DuplicateMessage, match=str(first)):
                outbox.send("tests", type="noted", data={"number": 1}, message_id=first)
            send("k")
        assert len(claim()) == 2

    def test_invalid_delays_are_rejected(self) -> None:
        with pytest.raises(ValueError, match="must not be negative"):
            outbox.send("tests", type="noted", data={}, delay=timedelta(seconds=-1))
        with pytest.raises(TypeError, match="must be a timedelta, got 5"):
            outbox.send("tests", type="noted", data={}, delay=5)  # type: ignore[arg-type]

    @pytest.mark.database_alone
    def test_sending_to_a_database_without_a_relay_is_rejected(self) -> None:
        elsewhere = type(store_for())("elsewhere")  # type: ignore[call-arg]
        with pytest.raises(ImproperlyConfigured, match="outbox messages can only be stored"):
            elsewhere.send(Message(type="noted", data=None, destination="tests"))


class TestClaim:
    def test_a_message_can_be_claimed_again_only_after_its_lease(self) -> None:
        send("k")
        (first,) = claim("a")
        assert claim("b") == []
        expire_leases()
        (second,) = claim("b")
        assert second.attempts == 2
        assert settle("a", Settlement(first)) == [False]
        assert settle("a", *returned(first)) == [False]
        assert settle("b", Settlement(second)) == [True]
        assert row().status == Status.PUBLISHED

    def test_a_lease_below_one_second_ends_on_time(self) -> None:
        send("k")
        started = time.monotonic()
        claim("a", lease=0.25)
        while not (taken := claim("b")):
            assert time.monotonic() - started < 5
        assert time.monotonic() - started >= 0.249
        assert taken[0].attempts == 2

    @pytest.mark.database_alone
    def test_leases_are_measured_on_the_clock_of_the_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send("k")
        (claimed,) = claim("a")
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 3600)
        assert claim("b") == []
        assert settle("a", Settlement(claimed)) == [True]

    def test_a_scheduled_message_is_claimed_when_its_delay_is_over(self) -> None:
        outbox.send("tests", type="noted", data={"number": 0}, delay=timedelta(hours=1))
        assert claim() == []
        end_pauses()
        assert len(claim()) == 1

    def test_a_limit_of_0_claims_nothing(self) -> None:
        send("k")
        assert claim(limit=0) == []
        assert row().attempts == 0

    def test_claiming_inside_a_transaction_is_rejected(self) -> None:
        send("k")
        with pytest.raises(RuntimeError), store_for().transaction():
            claim()
        assert row().status == Status.PENDING

    @pytest.mark.database_alone
    def test_each_message_is_claimed_by_exactly_one_of_several_processes(self) -> None:
        send(*[None] * 200)
        taken = run_processes(claim_all, [("a",), ("b",), ("c",), ("d",)])
        everything = sorted(id for each in taken for id in each)
        assert everything == sorted(OutboxMessage.objects.values_list("id", flat=True))

    def test_each_message_is_claimed_by_exactly_one_of_several_threads(self) -> None:
        send(*[None] * 100)

        def claim_everything(worker: str) -> list[int]:
            taken: list[int] = []
            while claimed := claim(worker, limit=7):
                taken.extend(numbers(claimed))
            return taken

        with threads(4) as submit:
            taken = [submit(claim_everything, worker) for worker in "abcd"]
        assert sorted(number for each in taken for number in each.result()) == list(range(100))

    @pytest.mark.requires_postgresql
    def test_a_locked_row_is_skipped_with_the_rest_of_its_key(self) -> None:
        send("k", "k", "other")
        claim("dead", limit=1)
        expire_leases()
        with transaction.atomic():
            OutboxMessage.objects.select_for_update().get(id=OutboxMessage.objects.earliest("id").id)
            with threads(1) as submit:
                assert numbers(submit(claim_impatiently).result()) == [2]

    @pytest.mark.database_alone
    @pytest.mark.parametrize(
        "wrong",
        [
            {"status": "published"},
            {"status": "claimed", "claimed_by": "a"},
            {"status": "dead"},
            {"status": "discarded"},
            {"status": "pending", "published_at": "2026-01-01T00:00:00Z"},
            {"status": "unheard"},
        ],
    )
    def test_the_database_rejects_columns_that_do_not_fit_the_status(self, wrong: dict[str, str]) -> None:
        send("k")
        with pytest.raises(IntegrityError):
            OutboxMessage.objects.update(**wrong)


class TestOrderOfAKey:
    def test_a_message_waits_for_an_earlier_message_of_its_key_that_backs_off(self) -> None:
        send("k", "k", "other", None)
        first, *rest = claim()
        settle("a", Settlement(first, DOWN), *returned(*rest))
        assert numbers(claim()) == [2, 3]
        end_pauses()
        assert numbers(claim()) == [0, 1]

    def test_a_message_waits_for_an_earlier_message_of_its_key_that_another_worker_holds(self) -> None:
        send("k", "k", "other")
        assert numbers(claim("a", limit=1)) == [0]
        assert numbers(claim("b")) == [2]

    def test_a_message_waits_for_an_earlier_message_of_its_key_that_is_scheduled(self) -> None:
        send("k")
        outbox.send("tests", type="noted", data={"number": 1}, key="k", delay=timedelta(hours=1))
        send("k", "l")
        (first, _) = claimed = claim()
        assert numbers(claimed) == [0, 1]
        assert first.message.key == "k"
        assert claimed[1].message.key == "l"
        settle("a", Settlement(first))
        assert claim() == []

    def test_later_messages_of_a_key_are_claimed_after_its_failing_message_is_dead(self) -> None:
        send("k", "k")
        first, second = claim()
        settle("a", Settlement(first, NEVER), *returned(second))
        assert numbers(claim()) == [1]

    def test_later_messages_of_a_key_are_claimed_after_its_failing_message_is_discarded(self) -> None:
        send("k", "k")
        first, second = claim()
        settle("a", Settlement(first, DOWN), *returned(second))
        assert claim() == []
        outbox.discard([first.message.message_id], by="ada")
        assert numbers(claim()) == [1]

    def test_messages_of_one_key_to_another_destination_do_not_wait(self, settings: Settings) -> None:
        recorder = settings.ES_DJANGO["DESTINATIONS"]["tests"]
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": recorder, "others": recorder}}
        outbox.send("others", type="noted", data={"number": 9}, key="k")
        send("k")
        assert len(outbox_store().claim("others", "a", limit=1, lease=LEASE)) == 1
        assert numbers(claim("b")) == [0]

    def test_messages_of_a_blocked_key_do_not_count_towards_the_limit(self) -> None:
        send(*["k"] * 5, "other")
        claim("a", limit=1)
        assert numbers(claim("b", limit=2)) == [5]

    def test_a_requeued_message_does_not_wait_for_a_later_message_of_its_key(self) -> None:
        send("k", "k")
        first, second = claim()
        settle("a", Settlement(first, NEVER), *returned(second))
        (second,) = claim()
        settle("a", Settlement(second, DOWN))
        outbox.requeue([first.message.message_id], by="ada")
        assert numbers(claim()) == [0]


class TestAbandonedMessages:
    def test_abandoned_messages_are_claimed_together_up_to_the_limit(self) -> None:
        send("k", "l", "k", "m", "k", "n")
        claim("dies", limit=5)
        expire_leases()
        claims = claim("x", limit=4)
        assert numbers(claims) == [0, 1, 2, 3]
        assert numbers(claim("y")) == [5]
        assert settle("x", *map(Settlement, claims)) == [True] * 4
        assert numbers(claim("y")) == [4]

    def test_a_message_is_claimed_alone_after_two_workers_died(self) -> None:
        send("a", "b", "c", "d")
        claim("dies", limit=2)
        expire_leases()
        assert numbers(claim("dies too")) == [0, 1]
        expire_leases()
        assert numbers(claim("x")) == [0]
        assert numbers(claim("y")) == [1]
        assert numbers(claim("z")) == [2, 3]

    def test_a_message_with_one_attempt_left_is_claimed_alone_after_its_worker_died(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"MAX_ATTEMPTS": 2}}
        send("a", "b", "c", "d")
        claim("dies", limit=2)
        expire_leases()
        assert numbers(claim("x")) == [0]
        assert numbers(claim("y")) == [1]
        assert numbers(claim("z")) == [2, 3]

    def test_abandoned_messages_are_claimed_before_due_ones(self) -> None:
        send("a", "b", "c", "d")
        claims = claim("dies")
        settle("dies", *returned(claims[0], claims[1], claims[3]))
        expire_leases()
        assert numbers(claim("x")) == [2]
        assert numbers(claim("y")) == [0, 1, 3]

    def test_an_abandoned_message_waits_for_an_earlier_message_of_its_key(self) -> None:
        send("k", "k", "l")
        first, second, _ = claim("dies")
        outbox.release([first.message.message_id], by="ada")
        expire_leases()
        assert numbers(claim("x")) == [2]
        assert numbers(claim("x")) == [0]
        assert settle("x", Settlement(msgspec.structs.replace(first, attempts=2))) == [True]
        assert numbers(claim("x")) == [1]
        assert second.attempts == 1


class TestSettle:
    def test_only_the_claiming_worker_can_settle_and_only_once(self) -> None:
        send("k")
        (claimed,) = claim("worker-a")
        assert settle("worker-b", Settlement(claimed)) == [False]
        assert settle("worker-a", Settlement(claimed)) == [True]
        assert row().status == Status.PUBLISHED
        assert settle("worker-a", Settlement(claimed)) == [False]

    def test_the_error_for_a_lost_claim_names_message_and_worker(self) -> None:
        send("k")
        (claimed,) = claim("worker-a")
        (lost,) = outbox_store().settle("worker-b", [Settlement(claimed)])
        assert lost is not None
        assert (lost.message_id, lost.worker, lost.retryable) == (claimed.message.message_id, "worker-b", False)

    def test_an_expired_claim_settles_nothing_even_if_no_other_worker_claimed_the_message(self) -> None:
        send("k")
        (claimed,) = claim("a")
        expire_leases()
        assert settle("a", Settlement(claimed)) == [False]
        assert row().status == Status.CLAIMED

    def test_a_stale_claim_does_not_affect_the_rest_of_the_batch(self) -> None:
        send("k", "l", "m")
        first, second, third = claim("a")
        stale = msgspec.structs.replace(second, attempts=2)
        assert settle("a", Settlement(first), Settlement(stale), Settlement(third)) == [True, False, True]
        assert statuses() == [Status.PUBLISHED, Status.CLAIMED, Status.PUBLISHED]

    def test_a_failed_message_is_due_again_after_a_pause(self) -> None:
        send("k")
        (claimed,) = claim()
        assert settle("a", Settlement(claimed, DOWN)) == [True]
        assert row() == (Status.PENDING, 1, "down", False)
        assert claim() == []
        end_pauses()
        assert claim()[0].attempts == 2

    def test_a_message_is_dead_after_its_last_attempt(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"MAX_ATTEMPTS": 2}}
        send("k")
        (first,) = claim()
        assert settle("a", Settlement(first, PublishError("first failure"))) == [True]
        assert row() == (Status.PENDING, 1, "first failure", False)
        end_pauses()
        (second,) = claim()
        assert settle("a", Settlement(first)) == [False], "a claim of an earlier attempt must not settle the message"
        assert settle("a", Settlement(second, PublishError("second failure"))) == [True]
        assert row()[:3] == (Status.DEAD, 2, "second failure")
        assert claim() == []

    def test_a_message_is_dead_after_a_failure_that_is_not_retryable(self) -> None:
        send("k")
        settle("a", Settlement(claim()[0], NEVER))
        assert row()[:3] == (Status.DEAD, 1, "never")
        assert claim() == []

    def test_returning_a_claim_restores_status_and_attempts(self) -> None:
        send("k")
        settle("a", *returned(*claim()))
        assert row() == (Status.PENDING, 0, "", True)
        assert claim()[0].attempts == 1

    def test_a_returned_message_stores_the_reason_as_its_last_error(self) -> None:
        send("k")
        settle("a", Settlement(claim()[0], DOWN, tried=False))
        assert row() == (Status.PENDING, 0, "down", True)

    @pytest.mark.requires_postgresql
    @pytest.mark.parametrize("action", [settle_backwards, renew_backwards])
    def test_rows_are_locked_in_the_order_of_their_ids(
        self,
        action: Callable[[list[Claim]], None],
    ) -> None:
        send("k", "l", "m")
        claims = claim("a")
        messages = OutboxMessage.objects.order_by("id")
        with threads(1) as submit:
            with transaction.atomic():
                messages.select_for_update().get(id=claims[0].id)
                done = submit(action, claims)
                ended = time.monotonic() + 20
                while not is_awaited(connection.connection.info.backend_pid):
                    assert time.monotonic() < ended
                assert len(messages.select_for_update(nowait=True)) == 3
            done.result()


class TestExtend:
    def test_only_the_worker_of_a_live_claim_can_renew_it(self) -> None:
        send("k", "l", "m")
        claims = claim("a", lease=0.2)
        started = time.monotonic()
        stolen = msgspec.structs.replace(claims[1], attempts=7)
        assert outbox_store().extend("b", claims, lease=LEASE) == set()
        held = outbox_store().extend("a", [claims[0], stolen], lease=LEASE)
        assert held == {claims[0].id}
        taken: list[Claim] = []
        while len(taken) < 2:  # Each claim has its own lease, and one lease may expire a moment before the other.
            taken += claim("b")
            assert time.monotonic() - started < 5
        assert numbers(taken) == [1, 2]
        expire_leases()
        assert outbox_store().extend("a", claims, lease=LEASE) == set()
        assert settle("a", Settlement(claims[0])) == [False]


class TestMessagesOfEvents:
    def test_the_message_of_an_event_is_stored_in_the_same_commit_and_names_its_source(self) -> None:
        ledger = Ledger.open("l-1")
        ledger.annotate("first")
        Repository(Ledger).save(ledger)
        stream = ledger.stream
        (recorded,) = event_store.append(stream, [Announced(text="news")], expected=2)
        assert row().status == Status.PENDING
        message = claim()[0].message
        assert (message.type, message.key, message.stream, message.stream_version) == (
            "tests.announced",
            "l-1",
            stream,
            3,
        )
        assert message.headers == {"causation_id": str(recorded.event_id)}
        assert message.data == {"text": "news"}

    def test_the_message_of_an_event_can_be_scheduled(self) -> None:
        event_store.append(StreamId("ledger", "l-1"), [Announced(text="in an hour")], expected=0)
        assert claim() == []
        end_pauses()
        assert len(claim()) == 1

    def test_a_conflict_stores_neither_event_nor_message(self) -> None:
        ledger = Ledger.open("l-1")
        Repository(Ledger).save(ledger)
        with pytest.raises(ConcurrencyError):
            event_store.append(ledger.stream, [Announced(text="news")], expected=5)
        assert rows() == []

    @pytest.mark.parametrize("outer", [False, True])
    @pytest.mark.parametrize("at_once", [False, True])
    def test_a_duplicate_message_id_undoes_the_whole_commit_and_is_named(self, outer: bool, at_once: bool) -> None:
        taken = uuid4()
        announced = Announced(text=f"id {taken}")
        stream = StreamId("ledger", "l-1")
        if not at_once:
            outbox.send("tests", type="noted", data=None, message_id=taken)
        with pytest.raises(DuplicateMessage) as caught, store_for().transaction() if outer else nullcontext():
            event_store.append(stream, [announced, announced] if at_once else [announced], expected=0)
        assert list(caught.value.message_ids) == [taken]
        assert event_store.version(stream) == 0
        assert len(rows()) == (0 if at_once else 1)

    @pytest.mark.parametrize("outer", [False, True])
    def test_an_event_with_two_messages_of_one_id_is_rejected_before_any_write(
        self, outer: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        event_class: type[Event] = Announced
        monkeypatch.setitem(message_sources, event_class, message_sources[event_class] * 2)
        taken, stream = uuid4(), StreamId("ledger", "l-1")
        with store_for().transaction() if outer else nullcontext():
            with pytest.raises(DuplicateMessage) as caught:
                event_store.append(stream, [Announced(text=f"id {taken}")], expected=0)
            event_store.append(stream, [Announced(text="news")], expected=0)
        assert list(caught.value.message_ids) == [taken]
        assert event_store.version(stream) == 1


class TestBytes:
    """A batch is bounded by bytes as well as rows."""

    def send(self, *sizes: int, key: str | None = None) -> None:
        for number, size in enumerate(sizes):
            outbox.send("tests", type="noted", data={"number": number, "x": "x" * size}, key=key)

    def claim(self, max_bytes: int) -> list[int]:
        return numbers(outbox_store().claim("tests", uuid4().hex, limit=100, lease=LEASE, max_bytes=max_bytes))

    @pytest.mark.parametrize("key", [None, "k"])
    def test_fault_e7_a_claim_takes_the_first_messages_that_fit(self, key: str | None) -> None:
        self.send(1000, 1000, 1000, 10, key=key)
        assert self.claim(2200) == [0, 1]

    def test_fault_e7_the_messages_that_did_not_fit_are_claimed_next(self) -> None:
        self.send(1000, 1000, 1000, 10)
        assert [self.claim(2200), self.claim(2200), self.claim(2200)] == [[0, 1], [2, 3], []]

    def test_fault_e7_a_message_above_the_limit_is_claimed_alone(self) -> None:
        self.send(10, 5000, 10)
        assert [self.claim(100), self.claim(100), self.claim(100)] == [[0], [1], [2]]

    def test_fault_e7_a_compressible_message_counts_with_its_whole_length(self) -> None:
        self.send(200_000, 200_000)
        assert self.claim(300_000) == [0]

    def test_fault_e7_abandoned_messages_are_bounded_too(self) -> None:
        self.send(1000, 1000, 1000)
        assert self.claim(9999) == [0, 1, 2]
        expire_leases()
        assert self.claim(2200) == [0, 1]
