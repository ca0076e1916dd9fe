"""The relay: claim, publish, settle, in the order of each key."""

import logging
import os
import random
import signal
import threading
import time
from collections import defaultdict
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from es_django import Message, StreamId, conf, event_store, outbox
from es_django.errors import PublishError, UnknownDestination
from es_django.models import OutboxMessage
from es_django.outbox import nudge
from es_django.outbox.publishers import Publisher
from es_django.outbox.relay import RENEWAL, relay
from es_django.outbox.store import outbox_store
from tests.outbox.published import Told
from tests.processes import run_processes
from tests.publishers import Recorder

pytestmark = pytest.mark.django_db(transaction=True)

Status = OutboxMessage.Status


def send(*keys: str | None) -> None:
    for number, key in enumerate(keys):
        outbox.send("tests", type="noted", data={"number": number}, key=key)


def numbers(messages: list[Message]) -> list[int]:
    return [message.data["number"] for message in messages]


def let_pauses_end() -> None:
    OutboxMessage.objects.filter(status=Status.PENDING).update(available_at=timezone.now() - timedelta(hours=1))


def test_everything_that_is_due_is_published(recorder: type[Recorder]) -> None:
    send("k", None, "l", "k")
    assert relay() == 4
    assert sorted(numbers(recorder.published)) == [0, 1, 2, 3]
    assert set(OutboxMessage.objects.values_list("status", flat=True)) == {Status.PUBLISHED}
    assert relay() == 0


def test_no_two_messages_of_a_key_are_in_one_call(recorder: type[Recorder]) -> None:
    send("k", "l", "k", None, None, "k")
    relay()
    assert [numbers(call) for call in recorder.calls] == [[0, 1, 3, 4], [2], [5]]


def test_a_publisher_that_fails_twice_delivers_once(recorder: type[Recorder]) -> None:
    send("k")
    failures = [PublishError("one"), PublishError("two"), None]
    recorder.fail = staticmethod(lambda message: failures.pop(0))
    for attempts in (1, 2):
        assert relay() == 0
        message = OutboxMessage.objects.get()
        assert (message.status, message.attempts) == (Status.PENDING, attempts)
        let_pauses_end()
    assert relay() == 1
    assert len(recorder.published) == 1


def test_a_failing_message_holds_back_its_key_and_no_other(recorder: type[Recorder]) -> None:
    send("k", "k", "l", "k")
    recorder.fail = staticmethod(lambda message: PublishError("down") if message.data["number"] == 0 else None)
    assert relay() == 1
    assert numbers(recorder.published) == [2]
    assert list(OutboxMessage.objects.order_by("id").values_list("attempts", flat=True)) == [1, 0, 1, 0]
    recorder.fail = staticmethod(lambda message: None)
    let_pauses_end()
    relay()
    assert numbers(recorder.published) == [2, 0, 1, 3]


def test_a_publisher_that_is_slower_than_the_lease_keeps_its_claims(
    recorder: type[Recorder], settings: Settings
) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"LEASE": 2}}
    send(None, None)

    def outlive_the_lease(message: Message) -> None:
        end_of_the_lease = OutboxMessage.objects.earliest("id").claimed_until
        assert end_of_the_lease is not None
        while timezone.now() <= end_of_the_lease:
            time.sleep(0.02)
        assert outbox_store().claim("tests", "thief", limit=10, lease=30) == []
        recorder.fail = staticmethod(lambda message: None)

    recorder.fail = staticmethod(outlive_the_lease)
    assert relay() == 2
    assert set(OutboxMessage.objects.values_list("status", "attempts")) == {(Status.PUBLISHED, 1)}


def test_a_relay_that_lost_its_claims_stops(recorder: type[Recorder], settings: Settings) -> None:
    settings.ES_DJANGO = {**settings.ES_DJANGO, "OUTBOX": {"LEASE": 0.3}}
    send("k", "k")

    def lose_the_claims(message: Message) -> None:
        OutboxMessage.objects.update(claimed_by="thief", claimed_until=timezone.now() + timedelta(hours=1))
        ended = timezone.now() + timedelta(seconds=10)
        while not renewal_has_noticed():
            assert timezone.now() < ended

    def renewal_has_noticed() -> bool:
        return not any(thread.name == RENEWAL for thread in threading.enumerate())

    recorder.fail = staticmethod(lose_the_claims)
    assert relay() == 0
    assert numbers(recorder.published) == [0]
    assert set(OutboxMessage.objects.values_list("claimed_by", flat=True)) == {"thief"}


def test_a_destination_that_fails_as_a_whole_does_not_stop_the_others(
    recorder: type[Recorder], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ES_DJANGO = {
        "DESTINATIONS": {"broken": {"PUBLISHER": "no.such.Publisher"}, **settings.ES_DJANGO["DESTINATIONS"]}
    }
    send("k")
    assert relay() == 1
    assert "the messages to broken could not be relayed" in caplog.text
    with pytest.raises(ImproperlyConfigured):
        relay("broken")


def test_destinations_take_turns(settings: Settings, recorder: type[Recorder]) -> None:
    publisher = {"PUBLISHER": "tests.publishers.Recorder"}
    settings.ES_DJANGO = {"DESTINATIONS": {"a": publisher, "b": publisher}, "OUTBOX": {"BATCH_SIZE": 1}}
    for number, destination in enumerate("aabb"):
        outbox.send(destination, type="noted", data={"number": number})
    assert relay() == 4
    assert [message.destination for message in recorder.published] == ["a", "b", "a", "b"]


def test_one_error_that_no_database_could_hold_does_not_stop_the_others(recorder: type[Recorder]) -> None:
    send("k", "l", "m")
    bad = PublishError("remote said \x00 and \udc80")
    recorder.fail = staticmethod(lambda message: bad if message.data["number"] == 0 else None)
    assert relay() == 2
    assert "remote said" in OutboxMessage.objects.get(status=Status.PENDING).last_error


class Raising(Publisher):
    def publish(self, messages: object) -> list[None]:
        raise RuntimeError("no idea")


class Silent(Publisher):
    def publish(self, messages: object) -> list[None]:
        return []


@pytest.mark.parametrize(("publisher", "reason"), [("Raising", "no idea"), ("Silent", "returned 0 outcomes for 2")])
def test_a_publisher_that_breaks_its_word_fails_its_messages(publisher: str, reason: str, settings: Settings) -> None:
    settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": f"{__name__}.{publisher}"}}}
    send("k", "l")
    assert relay() == 0
    for message in OutboxMessage.objects.all():
        assert message.status == Status.PENDING
        assert reason in message.last_error


def test_an_unknown_destination_is_told(recorder: type[Recorder]) -> None:
    with pytest.raises(UnknownDestination):
        relay("nowhere")


def test_an_event_may_tell_nothing_or_in_full(recorder: type[Recorder]) -> None:
    stream = StreamId("ledger", "l-1")
    event_store.append(stream, [Told(text="secret"), Told(text="in full"), Told(text="news")], expected=0)
    relay()
    first, second = recorder.published
    assert (first.type, first.data, first.key, first.stream_version) == ("told.in_full", ["in full"], "own key", 2)
    assert first.headers["own"] == "header"
    assert (second.type, second.key, second.stream_version) == ("tests.told", "l-1", 3)


@pytest.fixture(autouse=True)
def _the_broker_is_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudge, "_silent_until", 0.0)


@pytest.fixture
def nudges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, **options: sent.append(name))
    return sent


def test_a_transaction_nudges_the_relay_once_and_after_its_commit(recorder: type[Recorder], nudges: list[str]) -> None:
    with transaction.atomic():
        send("k", "l")
        event_store.append(StreamId("ledger", "l-1"), [Told(text="news")], expected=0)
        assert nudges == []
    assert nudges == [nudge.RELAY_TASK]


def test_a_savepoint_that_is_rolled_back_does_not_swallow_the_nudge(
    recorder: type[Recorder], nudges: list[str]
) -> None:
    with transaction.atomic():
        with pytest.raises(KeyError), transaction.atomic():
            send("undone")
            raise KeyError
        send("kept")
    assert nudges == [nudge.RELAY_TASK]
    with pytest.raises(KeyError), transaction.atomic():
        send("undone")
        raise KeyError
    assert nudges == [nudge.RELAY_TASK]


def test_a_broker_that_is_down_does_not_fail_the_commit(
    recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str, **options: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(current_app, "send_task", refuse)
    with caplog.at_level(logging.WARNING):
        send("k")
        send("l")
    assert caplog.text.count("the next sweep publishes") == 1, "it is left alone for a while"
    assert relay() == 2


def test_a_broker_that_is_down_keeps_nobody_waiting(
    recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nudge._connection.discard()
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://guest:guest@127.0.0.1:1//")
    pauses: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    send("k")
    assert "the next sweep publishes" in caplog.text
    assert sum(pauses) == 0


def use_recorder(**outbox_settings: object) -> None:
    """In a process of its own, where the settings are those of the project."""
    django_settings.ES_DJANGO = {
        "DESTINATIONS": {"tests": {"PUBLISHER": "tests.publishers.Recorder"}},
        "OUTBOX": outbox_settings,
    }
    conf.settings.cache_clear()
    Recorder.reset()


def relay_and_die(barrier: Barrier) -> None:
    use_recorder()
    Recorder.fail = staticmethod(lambda message: os.kill(os.getpid(), signal.SIGKILL))
    relay()


def test_a_killed_relay_loses_nothing(recorder: type[Recorder]) -> None:
    send("k", "l")
    with pytest.raises(RuntimeError, match="exit code -9"):
        run_processes(relay_and_die, [()])
    assert set(OutboxMessage.objects.values_list("status", flat=True)) == {Status.CLAIMED}
    assert relay() == 0
    OutboxMessage.objects.update(claimed_until=timezone.now() - timedelta(hours=1))
    assert relay() == 2
    assert sorted(numbers(recorder.published)) == [0, 1]


def relay_with_failures(barrier: Barrier, seed: int, deliveries: str) -> None:
    use_recorder(BATCH_SIZE=50, BACKOFF={"base": 0.01, "max": 0.05}, MAX_ATTEMPTS=1000)
    chance = random.Random(seed)
    file = os.open(deliveries, os.O_WRONLY | os.O_APPEND)

    def deliver(message: Message) -> PublishError | None:
        if chance.random() < 0.05:
            return PublishError("at random")
        os.write(file, f"{message.key} {message.data['number']}\n".encode())
        return None

    Recorder.fail = staticmethod(deliver)
    barrier.wait()
    while OutboxMessage.objects.filter(status__in=[Status.PENDING, Status.CLAIMED]).exists():
        relay()


def test_several_relays_under_failures_deliver_everything_in_the_order_of_each_key(
    recorder: type[Recorder], tmp_path: Path
) -> None:
    deliveries = tmp_path / "deliveries"
    deliveries.touch()
    with transaction.atomic():
        send(*(f"k-{number % 20}" for number in range(1000)))
    run_processes(relay_with_failures, [(seed, str(deliveries)) for seed in range(4)], timeout=120)
    assert set(OutboxMessage.objects.values_list("status", flat=True)) == {Status.PUBLISHED}
    first_deliveries: defaultdict[str, list[int]] = defaultdict(list)
    for line in deliveries.read_text().splitlines():
        key, number = line.split()
        if int(number) not in first_deliveries[key]:
            first_deliveries[key].append(int(number))
    assert sum(map(len, first_deliveries.values())) == 1000
    assert all(each == sorted(each) for each in first_deliveries.values())
