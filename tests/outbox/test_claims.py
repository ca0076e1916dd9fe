"""Claims and their settling, on the database's clock."""

import json
import time
from contextlib import nullcontext
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.utils import timezone

from es_django import ConcurrencyError, Message, Repository, StreamId, event_store, outbox
from es_django.errors import DuplicateMessage, PublishError, UnknownDestination
from es_django.models import OutboxMessage
from es_django.outbox.store import Claim, Settlement, outbox_store
from es_django.store import store_for
from tests.domain import Ledger
from tests.outbox.published import Told
from tests.processes import run_processes
from tests.publishers import Recorder
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]

Status = OutboxMessage.Status

LEASE = 30.0


def send(*keys: str | None) -> None:
    for number, key in enumerate(keys):
        outbox.send("tests", type="noted", data={"number": number}, key=key)


def claim(worker: str = "a", *, limit: int = 100, lease: float = LEASE) -> list[Claim]:
    return outbox_store().claim("tests", worker, limit=limit, lease=lease)


def settle(worker: str, *settlements: Settlement) -> list[Claim]:
    return outbox_store().settle(worker, settlements)


def numbers(claims: list[Claim]) -> list[int]:
    return [each.message.data["number"] for each in claims]


def let_leases_run_out() -> None:
    OutboxMessage.objects.filter(status=Status.CLAIMED).update(claimed_until=timezone.now() - timedelta(hours=1))


def let_pauses_end() -> None:
    OutboxMessage.objects.filter(status=Status.PENDING).update(available_at=timezone.now() - timedelta(hours=1))


def test_a_sent_message_is_pending_and_comes_out_as_it_went_in() -> None:
    given = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    data = {"ä": [1, None, {"deep": "x"}]}
    outbox.send("tests", type="noted", data=data, key="k", headers={"trace": "1"}, message_id=given)
    assert OutboxMessage.objects.get().status == Status.PENDING
    (claimed,) = claim()
    message = claimed.message
    assert (message.message_id, message.type, message.key, message.destination) == (given, "noted", "k", "tests")
    assert (message.data, message.headers, message.stream, claimed.attempts) == (data, {"trace": "1"}, None, 1)


def test_a_message_is_gone_with_its_transaction() -> None:
    with pytest.raises(KeyError), transaction.atomic():
        send("k")
        raise KeyError
    assert claim() == []


def test_an_unknown_destination_is_refused() -> None:
    with pytest.raises(UnknownDestination, match=r"no destination 'nowhere'.*configured: tests"):
        outbox.send("nowhere", type="noted", data={})


@pytest.mark.parametrize("bad", [{"type": ""}, {"type": "x" * 256}, {"type": "noted", "key": " "}])
def test_a_blank_or_too_long_type_or_key_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="1 to 255 characters"):
        outbox.send("tests", data={}, **bad)  # type: ignore[arg-type]


def test_a_message_id_can_be_stored_once_and_the_error_leaves_the_transaction_usable() -> None:
    first = outbox.send("tests", type="noted", data={"number": 0})
    with transaction.atomic():
        with pytest.raises(DuplicateMessage, match=str(first)):
            outbox.send("tests", type="noted", data={"number": 1}, message_id=first)
        send("k")
    assert len(claim()) == 2


def test_only_the_claiming_worker_can_settle_and_only_once() -> None:
    send("k")
    (claimed,) = claim("a")
    assert settle("b", Settlement(claimed)) == [claimed]
    assert settle("a", Settlement(claimed)) == []
    assert OutboxMessage.objects.get().status == Status.PUBLISHED
    assert settle("a", Settlement(claimed)) == [claimed]


def test_a_live_claim_keeps_others_out_and_a_dead_one_does_not() -> None:
    send("k")
    (first,) = claim("a")
    assert claim("b") == []
    let_leases_run_out()
    (second,) = claim("b")
    assert second.attempts == 2
    assert settle("a", Settlement(first)) == [first]
    assert settle("b", Settlement(second)) == []


def test_an_expired_claim_settles_nothing_even_if_nobody_took_over() -> None:
    send("k")
    (claimed,) = claim("a")
    let_leases_run_out()
    assert settle("a", Settlement(claimed)) == [claimed]
    assert OutboxMessage.objects.get().status == Status.CLAIMED


def test_a_lease_below_a_second_ends_when_it_says() -> None:
    send("k")
    started = time.monotonic()
    claim("a", lease=0.25)
    while not (taken := claim("b")):
        assert time.monotonic() - started < 5
    assert time.monotonic() - started >= 0.249
    assert taken[0].attempts == 2


def test_one_stale_claim_does_not_spoil_the_batch() -> None:
    send("k", "l", "m")
    first, second, third = claim("a")
    OutboxMessage.objects.filter(id=second.id).update(claimed_by="b")
    assert settle("a", Settlement(first), Settlement(second), Settlement(third)) == [second]
    statuses = OutboxMessage.objects.order_by("id").values_list("status", flat=True)
    assert list(statuses) == [Status.PUBLISHED, Status.CLAIMED, Status.PUBLISHED]


def test_a_failed_message_comes_back_after_a_pause() -> None:
    send("k")
    (claimed,) = claim()
    assert settle("a", Settlement(claimed, PublishError("first failure"))) == []
    message = OutboxMessage.objects.get()
    assert (message.status, message.attempts, message.last_error) == (Status.PENDING, 1, "first failure")
    assert message.available_at > timezone.now()
    assert claim() == []
    let_pauses_end()
    assert claim()[0].attempts == 2


def test_a_permanent_failure_or_the_last_attempt_is_the_end() -> None:
    send("k", "l")
    first, second = claim()
    OutboxMessage.objects.filter(id=second.id).update(attempts=10)
    last = Claim(second.id, 10, second.message)
    settle("a", Settlement(first, PublishError("never", retryable=False)), Settlement(last, PublishError("again")))
    assert set(OutboxMessage.objects.values_list("status", "last_error")) == {("dead", "never"), ("dead", "again")}
    assert claim() == []


def test_what_was_not_tried_goes_back_as_it_was() -> None:
    send("k")
    (claimed,) = claim()
    settle("a", Settlement(claimed, tried=False))
    (again,) = claim()
    assert again.attempts == 1


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="is not negative"):
        outbox.send("tests", type="noted", data={}, delay=timedelta(seconds=-1))


def test_a_message_that_no_relay_would_find_is_refused() -> None:
    elsewhere = type(store_for())("elsewhere")  # type: ignore[call-arg]
    with pytest.raises(ImproperlyConfigured, match="would never be published"):
        elsewhere.send(Message(type="noted", data=None, destination="tests"))


def test_a_delayed_message_waits() -> None:
    outbox.send("tests", type="noted", data={"number": 0}, delay=timedelta(hours=1))
    assert claim() == []
    let_pauses_end()
    assert len(claim()) == 1


def test_a_key_waits_for_its_earlier_message_and_other_keys_do_not() -> None:
    send("k", "k", "other", None)
    first, *rest = claim()
    settle("a", Settlement(first, PublishError("down")), *(Settlement(each, tried=False) for each in rest))
    assert numbers(claim()) == [2, 3]
    let_pauses_end()
    assert numbers(claim()) == [0, 1]


def test_a_key_waits_for_a_claim_of_another_worker() -> None:
    send("k", "k", "other")
    assert numbers(claim("a", limit=1)) == [0]
    assert numbers(claim("b")) == [2]


def test_a_key_goes_on_once_its_failing_message_is_dead() -> None:
    send("k", "k")
    first, second = claim()
    settle("a", Settlement(first, PublishError("never", retryable=False)), Settlement(second, tried=False))
    assert numbers(claim()) == [1]


def test_a_blocked_key_does_not_fill_the_batch() -> None:
    send(*["k"] * 5, "other")
    claim("a", limit=1)
    assert numbers(claim("b", limit=2)) == [5]


def test_a_batch_of_none_claims_nothing() -> None:
    send("k")
    assert claim(limit=0) == []
    assert OutboxMessage.objects.get().attempts == 0


@pytest.mark.requires_postgresql
def test_a_row_that_somebody_settles_right_now_is_passed_over_and_so_is_its_key() -> None:
    send("k", "k", "other")
    claim("dead", limit=1)
    let_leases_run_out()
    with transaction.atomic():
        OutboxMessage.objects.select_for_update().get(id=OutboxMessage.objects.earliest("id").id)
        with threads(1) as submit:
            assert numbers(submit(claim, "b").result(10)) == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "published"},
        {"status": "claimed", "claimed_by": "a"},
        {"status": "dead"},
        {"status": "pending", "published_at": "2026-01-01T00:00:00Z"},
        {"status": "unheard-of"[:9]},
    ],
)
def test_the_database_refuses_a_status_that_does_not_fit(wrong: dict[str, str]) -> None:
    send("k")
    with pytest.raises(IntegrityError):
        OutboxMessage.objects.update(**wrong)


def claim_all(barrier: Barrier, worker: str) -> list[int]:
    Recorder.reset()
    taken: list[int] = []
    barrier.wait()
    while claimed := outbox_store().claim("tests", worker, limit=7, lease=60):
        taken.extend(each.id for each in claimed)
    return taken


def test_of_several_processes_each_message_is_claimed_by_one() -> None:
    send(*[None] * 200)
    taken = run_processes(claim_all, [("a",), ("b",), ("c",), ("d",)])
    everything = sorted(id for each in taken for id in each)
    assert everything == sorted(OutboxMessage.objects.values_list("id", flat=True))


def test_an_events_message_names_its_source_and_is_stored_with_it() -> None:
    ledger = Ledger.open("l-1")
    ledger.annotate("first")
    Repository(Ledger).save(ledger)
    stream = ledger.stream
    (recorded,) = event_store.append(stream, [Told(text="news")], expected=2)
    row = OutboxMessage.objects.select_related("stream").get()
    assert (row.type, row.key, row.stream_version) == ("tests.told", "l-1", 3)
    assert row.stream is not None
    assert (row.stream.category, row.stream.key) == ("ledger", "l-1")
    assert row.headers == {"causation_id": str(recorded.event_id)}
    assert json.dumps(row.data) == '{"text": "news"}'
    (claimed,) = claim()
    assert (claimed.message.stream, claimed.message.stream_version) == (stream, 3)


def test_a_conflict_stores_neither_event_nor_message() -> None:
    from es_django import event_store

    ledger = Ledger.open("l-1")
    Repository(Ledger).save(ledger)
    with pytest.raises(ConcurrencyError):
        event_store.append(ledger.stream, [Told(text="news")], expected=5)
    assert not OutboxMessage.objects.exists()


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_message_id_that_is_taken_undoes_the_whole_commit_and_is_named(outer: bool, at_once: bool) -> None:
    taken = uuid4()
    told = Told(text=f"id {taken}")
    stream = StreamId("ledger", "l-1")
    if not at_once:
        outbox.send("tests", type="noted", data=None, message_id=taken)
    with pytest.raises(DuplicateMessage) as caught, transaction.atomic() if outer else nullcontext():
        event_store.append(stream, [told, told] if at_once else [told], expected=0)
    assert list(caught.value.message_ids) == [taken]
    assert event_store.version(stream) == 0
    assert OutboxMessage.objects.count() == (0 if at_once else 1)
