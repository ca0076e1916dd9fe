"""An inline projection that is rebuilt while events are appended applies each event exactly once."""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from threading import Event as Signal

import pytest
from django.db import transaction
from pytest_django import Settings

from es_django import Projection, StorageError, event_store
from es_django.errors import is_retryable
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections import handover, rebuild, run_projection, run_projections, start_rebuild
from es_django.store.backends import store_for
from testproject.bank.events import MoneyIn, MoneyOut
from testproject.bank.models import Balance
from testproject.bank.projections import Balances
from testproject.bank.services import deposit, open_account
from tests.processes import run_processes
from tests.projections.effects import checkpoint, count, let_pauses_end
from tests.threads import threads, wait_until_a_query_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNTS = ["ada", "bob", "cyd"]


def balances() -> dict[str, Decimal]:
    return dict(Balance.objects.values_list("account", "balance"))


def balances_of_the_log() -> dict[str, Decimal]:
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for recorded in event_store.read_all(limit=100_000, types=Balances.event_classes).events:
        event = recorded.event
        sign = {MoneyIn: 1, MoneyOut: -1}
        amount = getattr(event, "amount", Decimal(0))
        found[recorded.stream.key] += amount * next((sign[kind] for kind in sign if isinstance(event, kind)), 0)
    return dict(found)


def is_rebuilding() -> bool:
    return checkpoint("balances").status != CheckpointStatus.INLINE


def in_flight(write: Callable[[], object], written: Signal, go_on: Signal) -> None:
    """Write in a transaction that stays open until `go_on` is set."""
    with transaction.atomic():
        write()
        written.set()
        assert go_on.wait(30)


def do_business(barrier: Barrier, seed: int) -> None:
    chance = random.Random(seed)
    barrier.wait()
    for _ in range(30):
        try:
            with transaction.atomic():
                for _ in range(chance.randrange(1, 3)):
                    deposit(chance.choice(ACCOUNTS), Decimal(chance.randrange(1, 100)))
                    time.sleep(chance.random() * 0.005)
                if chance.random() < 0.2:
                    raise KeyError
        except KeyError:
            pass
        except Exception as error:
            if not is_retryable(error):
                raise


def let_the_rebuild_end() -> None:
    deadline = time.monotonic() + 60
    while is_rebuilding():
        assert time.monotonic() < deadline, ProjectionCheckpoint.objects.get(name="balances").last_error
        run_projection("balances", seconds=0.5)


class TestTakeFromAppends:
    def test_the_rebuild_applies_events_that_are_appended_during_it(self) -> None:
        open_account("ada", owner="Ada")
        start_rebuild("balances", by="Eve")
        deposit("ada", Decimal(5))
        assert balances() == {}
        assert run_projections() >= 2
        assert balances() == {"ada": Decimal(5)}
        deposit("ada", Decimal(2))
        assert (balances(), is_rebuilding()) == ({"ada": Decimal(7)}, False)

    @pytest.mark.requires_postgresql
    def test_a_rebuild_does_not_begin_while_an_append_is_in_flight(self) -> None:
        written, go_on = Signal(), Signal()
        with threads(1) as submit:
            slow = submit(in_flight, lambda: open_account("ada", owner="Ada"), written, go_on)
            assert written.wait(30)
            with pytest.raises(StorageError) as caught:
                start_rebuild("balances", by="Eve")
            go_on.set()
            slow.result(30)
        assert caught.value.retryable
        assert balances() == {"ada": Decimal(0)}
        assert start_rebuild("balances", by="Eve")
        run_projections()
        assert balances() == {"ada": Decimal(0)}

    @pytest.mark.requires_postgresql
    def test_appends_do_not_wait_for_a_hanging_runner(self) -> None:
        open_account("ada", owner="Ada")
        start_rebuild("balances", by="Eve")
        ProjectionCheckpoint.objects.update(status=CheckpointStatus.INLINE)
        with threads(2) as submit:
            with transaction.atomic():
                ProjectionCheckpoint.objects.select_for_update().get(name="balances")
                starting = submit(lambda: start_rebuild("balances", by="Eve"))
                wait_until_a_query_waits_for_a_lock()
                assert submit(deposit, "ada", Decimal(5)).result(30) is None
                assert not starting.done()
            starting.result(30)
        let_the_rebuild_end()
        assert balances() == {"ada": Decimal(5)}

    @pytest.mark.requires_postgresql
    def test_appends_do_not_wait_while_the_models_are_emptied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        open_account("ada", owner="Ada")
        emptying, go_on = Signal(), Signal()

        def empty_slowly(projection: Projection) -> bool:
            emptying.set()
            assert go_on.wait(30)
            return empty(projection)

        empty = rebuild._empty_and_reset
        monkeypatch.setattr(rebuild, "_empty_and_reset", empty_slowly)
        with threads(2) as submit:
            starting = submit(lambda: start_rebuild("balances", by="Eve"))
            assert emptying.wait(30)
            submit(deposit, "ada", Decimal(5)).result(30)
            assert balances() == {"ada": Decimal(0)}, "the rebuild must apply the event"
            go_on.set()
            assert starting.result(30)
        let_the_rebuild_end()
        assert balances() == {"ada": Decimal(5)}


class TestGiveToAppends:
    @pytest.mark.requires_postgresql
    def test_a_rebuild_does_not_end_while_an_append_that_it_would_miss_is_in_flight(self) -> None:
        open_account("ada", owner="Ada")
        start_rebuild("balances", by="Eve")
        written, go_on = Signal(), Signal()
        with threads(1) as submit:
            slow = submit(in_flight, lambda: deposit("ada", Decimal(5)), written, go_on)
            assert written.wait(30)
            run_projection("balances")
            assert (balances(), is_rebuilding()) == ({"ada": Decimal(0)}, True)
            go_on.set()
            slow.result(30)
        let_pauses_end()
        run_projection("balances")
        assert (balances(), is_rebuilding()) == ({"ada": Decimal(5)}, False)

    def test_a_failed_hand_over_is_retried_after_growing_pauses(
        self, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"MAX_ATTEMPTS": 1, "BACKOFF": {"base": 60}}}
        held: list[int] = []

        def hold(store: object) -> None:
            held.append(0)
            raise StorageError("hold the appends", True)

        open_account("ada", owner="Ada")
        start_rebuild("balances", by="Eve")
        with monkeypatch.context() as patch:
            patch.setattr(type(store_for()), "hold_inline_projections", hold)
            for times, pause in enumerate((60, 120, 240), start=1):
                for _ in range(2):
                    run_projection("balances")
                state = checkpoint("balances")
                assert state.retry_at is not None
                assert (len(held), round((state.retry_at - state.updated_at).total_seconds())) == (times, pause)
                assert (state.status, state.failed_position) == (CheckpointStatus.REBUILDING, None)
                deposit("ada", Decimal(1))
                let_pauses_end()
        run_projection("balances")
        state = checkpoint("balances")
        assert (balances(), is_rebuilding(), state.attempts, state.retry_at) == ({"ada": Decimal(3)}, False, 0, None)

    @pytest.mark.requires_postgresql
    def test_a_rebuild_ends_although_an_unrelated_append_is_in_flight(self) -> None:
        start_rebuild("balances", by="Eve")
        written, go_on = Signal(), Signal()
        with threads(1) as submit:
            slow = submit(in_flight, lambda: count(1), written, go_on)
            assert written.wait(30)
            open_account("ada", owner="Ada")
            run_projection("balances")
            assert (balances(), is_rebuilding()) == ({"ada": Decimal(0)}, False)
            go_on.set()
            slow.result(30)

    @pytest.mark.requires_postgresql
    def test_a_rebuild_goes_on_if_too_many_events_remain_for_appends_to_wait(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handover, "MAX_REMAINING", 3)
        open_account("ada", owner="Ada")
        start_rebuild("balances", by="Eve")
        written, go_on = Signal(), Signal()
        with threads(1) as submit:
            # An append in flight holds events back. These events remain after the readable log is applied.
            slow = submit(in_flight, lambda: count(1), written, go_on)
            assert written.wait(30)
            for _ in range(4):
                deposit("ada", Decimal(1))
            run_projection("balances")
            assert (balances(), is_rebuilding()) == ({"ada": Decimal(0)}, True)
            go_on.set()
            slow.result(30)
        run_projection("balances")
        assert (balances(), is_rebuilding()) == ({"ada": Decimal(4)}, False)


class TestBothWays:
    @pytest.mark.slow
    def test_repeated_rebuilds_beside_writers_give_the_read_model_of_the_log(self) -> None:
        for account in ACCOUNTS:
            open_account(account, owner=account)
        rebuilt = 0
        with threads(1) as submit:
            writers = submit(run_processes, do_business, [(seed,) for seed in range(3)])
            while not writers.done():
                try:
                    rebuilt += start_rebuild("balances", by="Eve")
                    run_projection("balances", seconds=0.5)
                except StorageError as error:
                    if not error.retryable:
                        raise
            writers.result()
        let_the_rebuild_end()
        assert rebuilt > 1
        assert balances() == balances_of_the_log()
