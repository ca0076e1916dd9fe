"""The relay is woken soon after a commit, once, and without delaying the request."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from django.db import transaction

from es_django import StreamId, event_store, outbox
from es_django.outbox import wakeup
from es_django.outbox.relay import relay
from testproject.celery import app
from tests.outbox.published import Announced
from tests.processes import run_processes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]


class Broker:
    """Replace Celery's broker and record each task that is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.arrived = threading.Semaphore(0)
        self.answer: Callable[[], object] = lambda: None

    def send_task(self, name: str, **options: object) -> None:
        self.sent.append(name)
        self.arrived.release()
        self.answer()

    def wait_for_task(self) -> None:
        assert self.arrived.acquire(timeout=10)

    @property
    def is_quiet(self) -> bool:
        """Return whether no task arrives within three intervals of the waker."""
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


def wake_before_and_after_a_fork(barrier: object) -> None:
    broker = Broker()
    app.send_task = broker.send_task  # type: ignore[assignment, method-assign]
    wakeup.wake_relay()
    broker.wait_for_task()
    child = os.fork()
    if child == 0:
        wakeup.wake_relay()
        os._exit(0 if broker.arrived.acquire(timeout=10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestOnCommit:
    def test_a_transaction_wakes_the_relay_once_after_its_commit(self, broker: Broker) -> None:
        with transaction.atomic():
            send("k", "l")
            event_store.append(StreamId("ledger", "l-1"), [Announced(text="news")], expected=0)
            assert broker.is_quiet
        broker.wait_for_task()
        assert broker.is_quiet
        assert broker.sent == [wakeup.RELAY_TASK]

    def test_a_commit_after_a_rolled_back_savepoint_wakes_the_relay(self, broker: Broker) -> None:
        with transaction.atomic():
            with pytest.raises(KeyError), transaction.atomic():
                send("undone")
                raise KeyError
            send("kept")
        broker.wait_for_task()

    def test_a_rolled_back_transaction_does_not_wake_the_relay(self, broker: Broker) -> None:
        with pytest.raises(KeyError), transaction.atomic():
            send("undone")
            raise KeyError
        assert broker.is_quiet

    def test_fault_e9_many_savepoints_share_one_callback(self, broker: Broker) -> None:
        with transaction.atomic():
            for _ in range(50):
                with transaction.atomic():
                    send("k")
                    with transaction.atomic():
                        send("l")
            assert len(transaction.get_connection().run_on_commit) == 1
        broker.wait_for_task()
        assert broker.is_quiet

    def test_fault_e9_a_send_does_not_scan_the_callbacks_of_the_transaction(self) -> None:
        class Counted(list[Any]):
            scans = 0

            def __iter__(self) -> Iterator[Any]:
                Counted.scans += 1
                return super().__iter__()

        with transaction.atomic():
            connection = transaction.get_connection()
            connection.run_on_commit = Counted()
            for _ in range(20):
                transaction.on_commit(lambda: None)
                with transaction.atomic():
                    send("k")
            assert Counted.scans == 0

    def test_fault_e9_a_message_of_a_released_savepoint_is_relayed_although_the_next_one_is_rolled_back(
        self, broker: Broker
    ) -> None:
        with transaction.atomic():
            with transaction.atomic():
                send("kept")
            with pytest.raises(KeyError), transaction.atomic():
                send("undone")
                raise KeyError
        broker.wait_for_task()

    def test_fault_e9_messages_of_rolled_back_savepoints_do_not_wake_the_relay(self, broker: Broker) -> None:
        with transaction.atomic():
            for _ in range(2):
                with pytest.raises(KeyError), transaction.atomic():
                    with transaction.atomic():
                        send("undone")
                    send("undone too")
                    raise KeyError
        assert broker.is_quiet

    def test_fault_e9_each_transaction_wakes_the_relay(self, broker: Broker) -> None:
        for _ in range(2):
            with transaction.atomic():
                send("k")
            broker.wait_for_task()


class TestWaker:
    def test_many_commits_share_few_wakeups_and_one_follows_the_last_commit(self, broker: Broker) -> None:
        busy = threading.Event()
        broker.answer = busy.wait
        for _ in range(1000):
            with transaction.atomic():
                transaction.on_commit(wakeup.wake_relay)
        broker.wait_for_task()
        assert broker.sent == [wakeup.RELAY_TASK], "one wakeup is sent, and the other commits must share the next one"
        busy.set()
        broker.wait_for_task()
        assert broker.is_quiet
        assert len(broker.sent) == 2

    def test_wakeups_of_a_process_keep_a_minimum_interval(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr("es_django.outbox.wakeup.time.sleep", pauses.append)
        send("k")
        broker.wait_for_task()
        send("k")
        broker.wait_for_task()
        assert pauses[0] == wakeup.INTERVAL

    def test_a_broker_that_is_down_fails_no_commit_and_is_not_tried_for_a_while(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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
        assert "the next scheduled run publishes" in caplog.text
        assert relay() == 2

    def test_a_commit_does_not_wait_for_a_broker_that_hangs(self, broker: Broker) -> None:
        answered = threading.Event()
        broker.answer = answered.wait
        send("k")
        broker.wait_for_task()
        send("l")
        assert not answered.is_set()
        answered.set()

    def test_every_thread_uses_the_celery_app_of_the_project(self) -> None:
        known: list[str] = []
        thread = threading.Thread(target=lambda: known.append(current_app.main))
        thread.start()
        thread.join()
        assert known == [app.main]

    def test_a_forked_process_has_its_own_waker(self) -> None:
        run_processes(wake_before_and_after_a_fork, [()])
