"""The nudge: soon after a commit, once, and never at the cost of a request."""

import logging
import os
import threading
from collections.abc import Callable

import pytest
from celery import current_app
from django.db import transaction

from es_django import StreamId, event_store, outbox
from es_django.outbox import wakeup
from es_django.outbox.relay import relay
from testproject.celery import app
from tests.outbox.published import Told
from tests.processes import run_processes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]


class Broker:
    """Stands in for Celery: each task that is sent waits until the test has seen it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.arrived = threading.Semaphore(0)
        self.answer: Callable[[], object] = lambda: None

    def send_task(self, name: str, **options: object) -> None:
        self.sent.append(name)
        self.arrived.release()
        self.answer()

    def wait_for_one(self) -> None:
        assert self.arrived.acquire(timeout=10)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing more comes, judged by a whole interval of the nudger."""
        return not self.arrived.acquire(timeout=3 * wakeup.INTERVAL)


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    # The thread of an earlier test must not send a wakeup to this broker.
    wakeup._waker._wanted.clear()
    monkeypatch.setattr(app, "send_task", broker.send_task)
    monkeypatch.setattr(wakeup, "_waker", wakeup.Waker())
    return broker


def send(*keys: str) -> None:
    for key in keys:
        outbox.send("tests", type="noted", data=None, key=key)


def test_a_transaction_nudges_the_relay_once_and_after_its_commit(broker: Broker) -> None:
    with transaction.atomic():
        send("k", "l")
        event_store.append(StreamId("ledger", "l-1"), [Told(text="news")], expected=0)
        assert broker.is_quiet
    broker.wait_for_one()
    assert broker.is_quiet
    assert broker.sent == [wakeup.RELAY_TASK]


def test_a_savepoint_that_is_rolled_back_does_not_swallow_the_nudge(broker: Broker) -> None:
    with transaction.atomic():
        with pytest.raises(KeyError), transaction.atomic():
            send("undone")
            raise KeyError
        send("kept")
    broker.wait_for_one()


def test_a_transaction_that_is_rolled_back_nudges_nobody(broker: Broker) -> None:
    with pytest.raises(KeyError), transaction.atomic():
        send("undone")
        raise KeyError
    assert broker.is_quiet


def test_many_commits_share_few_nudges_and_the_last_one_has_one_after_it(broker: Broker) -> None:
    busy = threading.Event()
    broker.answer = busy.wait
    for _ in range(1000):
        with transaction.atomic():
            transaction.on_commit(wakeup.wake_relay)
    broker.wait_for_one()
    assert broker.sent == [wakeup.RELAY_TASK], "while one is on its way the others wait for it together"
    busy.set()
    broker.wait_for_one()
    assert broker.is_quiet
    assert len(broker.sent) == 2


def test_nudges_of_a_process_keep_their_distance(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("es_django.outbox.wakeup.time.sleep", pauses.append)
    send("k")
    broker.wait_for_one()
    send("k")
    broker.wait_for_one()
    assert pauses[0] == wakeup.INTERVAL


def test_a_broker_that_is_down_does_not_fail_the_commit_and_is_left_alone_for_a_while(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    paused, go_on = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        paused.set()
        go_on.wait(20)

    def refuse() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("es_django.outbox.wakeup.time.sleep", sleep)
    broker.answer = refuse
    with caplog.at_level(logging.WARNING):
        send("k")
        assert paused.wait(10)
        send("l")
    go_on.set()
    assert pauses[0] == wakeup.BROKER_PAUSE
    assert "the next sweep will publish" in caplog.text
    assert relay() == 2


def test_a_commit_returns_before_a_broker_that_does_not_answer(broker: Broker) -> None:
    answered = threading.Event()
    broker.answer = answered.wait
    send("k")
    broker.wait_for_one()
    send("l")
    assert not answered.is_set()
    answered.set()


def test_every_thread_knows_the_celery_app_of_the_project() -> None:
    known: list[str] = []
    thread = threading.Thread(target=lambda: known.append(current_app.main))
    thread.start()
    thread.join()
    assert known == [app.main]


def nudge_before_and_after_a_fork(barrier: object) -> None:
    broker = Broker()
    app.send_task = broker.send_task  # type: ignore[assignment, method-assign]
    wakeup.wake_relay()
    broker.wait_for_one()
    child = os.fork()
    if child == 0:
        wakeup.wake_relay()
        os._exit(0 if broker.arrived.acquire(timeout=10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_process_has_a_nudger_of_its_own() -> None:
    run_processes(nudge_before_and_after_a_fork, [()])
