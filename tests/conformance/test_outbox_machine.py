"""The guarantees of the outbox hold in any sequence of sends, claims, settlements, crashes and operations."""

from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from es_django import outbox
from es_django.errors import PublishError
from es_django.models import OutboxMessage
from es_django.outbox.backends import outbox_store
from es_django.outbox.port import Claim, Settlement
from es_django.outbox.states import OPEN, Status, Transition
from es_django.store.backends import replaced_store
from es_django.store.memory import MemoryEventStore
from tests.outbox.rows import end_pauses, expire_leases, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]

ALLOWED = {(origin, transition.target) for transition in Transition for origin in transition.origins}
OUTCOMES = {"published": None, "down": PublishError("down"), "never": PublishError("never", retryable=False)}
WORKERS = st.sampled_from(["a", "b", "c"])


class OutboxMachine(RuleBasedStateMachine):
    """The model: the id, key and status of each message, and the claims that each worker believes to hold."""

    in_memory = False
    _store: AbstractContextManager[None] | None = None

    @initialize()
    def start(self) -> None:
        self._store = replaced_store(MemoryEventStore()) if self.in_memory else None
        if self._store:
            self._store.__enter__()
        else:
            OutboxMessage.objects.all().delete()
        self.ids: list[UUID] = []
        self.keys: list[str | None] = []
        self.statuses: list[Status] = []
        self.claims: dict[str, list[Claim]] = {"a": [], "b": [], "c": []}
        self.live: dict[UUID, str] = {}
        self.first_settled: dict[str, list[int]] = {}

    def teardown(self) -> None:
        if self._store:
            self._store.__exit__(None, None, None)

    @rule(key=st.sampled_from(["k", "l", None]))
    def send(self, key: str | None) -> None:
        self.ids.append(outbox.send("tests", type="noted", data={"number": len(self.ids)}, key=key))
        self.keys.append(key)
        self.statuses.append(Status.PENDING)

    @rule(worker=WORKERS, limit=st.integers(0, 4))
    def claim(self, worker: str, limit: int) -> None:
        seen = rows()
        before = [each.status for each in seen]
        claims = outbox_store().claim("tests", worker, limit=limit, lease=1000)
        assert len(claims) <= limit
        numbers = [claim.message.data["number"] for claim in claims]
        assert numbers == sorted(numbers)
        assert len({before[number] for number in numbers}) <= 1, "abandoned messages must be claimed before due ones"
        suspects = [number for number in numbers if before[number] is Status.CLAIMED and seen[number].attempts > 1]
        assert not suspects or len(claims) == 1
        for number in numbers:
            earlier = [
                other
                for other in range(number)
                if self.keys[other] == self.keys[number] is not None and before[other] in OPEN
            ]
            assert set(earlier) <= set(numbers), "a message was claimed before an earlier open message of its key"
            assert self.live.get(self.ids[number]) is None, "a message was claimed while another worker holds it"
            self.live[self.ids[number]] = worker
        self.claims[worker] += claims

    @precondition(lambda self: any(self.claims.values()))
    @rule(data=st.data(), worker=WORKERS)
    def settle(self, data: st.DataObject, worker: str) -> None:
        mine = self.claims[worker]
        outcomes = [data.draw(st.sampled_from([*OUTCOMES, "returned", "kept"])) for _ in mine]
        settlements = [
            Settlement(claim, OUTCOMES.get(outcome), tried=outcome != "returned")
            for claim, outcome in zip(mine, outcomes, strict=True)
            if outcome != "kept"
        ]
        lost_claims = outbox_store().settle(worker, settlements)
        assert len(lost_claims) == len(settlements)
        for settlement, lost in zip(settlements, lost_claims, strict=True):
            message_id = settlement.claim.message.message_id
            held = self.live.get(message_id) == worker and self._is_latest(worker, settlement.claim)
            assert (lost is None) == held, "exactly the lost claims must settle nothing"
            if held:
                del self.live[message_id]
        self.claims[worker] = [claim for claim, outcome in zip(mine, outcomes, strict=True) if outcome == "kept"]

    def _is_latest(self, worker: str, claim: Claim) -> bool:
        number = claim.message.data["number"]
        return all(
            other.attempts <= claim.attempts
            for claims in self.claims.values()
            for other in claims
            if other.message.data["number"] == number
        )

    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        held = outbox_store().extend(worker, self.claims[worker], lease=1000)
        expected = {
            claim.id
            for claim in self.claims[worker]
            if self.live.get(claim.message.message_id) == worker and self._is_latest(worker, claim)
        }
        assert held == expected

    @rule()
    def all_workers_die(self) -> None:
        expire_leases()
        self.live.clear()

    @rule()
    def time_passes(self) -> None:
        end_pauses()

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), operation=st.sampled_from([outbox.requeue, outbox.release, outbox.discard]))
    def operate(self, data: st.DataObject, operation: Any) -> None:
        message_id = data.draw(st.sampled_from(self.ids))
        if operation([message_id], by="ada"):
            self.live.pop(message_id, None)

    @invariant()
    def every_change_of_status_is_an_allowed_transition(self) -> None:
        if not hasattr(self, "statuses"):
            return
        now = [each.status for each in rows()]
        assert len(now) == len(self.ids), "a message was lost"
        for before, after in zip(self.statuses, now, strict=True):
            assert before is after or (before, after) in ALLOWED
        self.statuses = now


class InMemory(OutboxMachine):
    in_memory = True


class TestOutbox:
    @pytest.mark.parametrize("machine", [OutboxMachine, InMemory])
    def test_the_guarantees_hold_in_any_sequence_of_steps(self, machine: type[OutboxMachine]) -> None:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
