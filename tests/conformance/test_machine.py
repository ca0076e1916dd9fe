"""Compare the store with a model. In any order, clients of two releases save, roll back transactions and savepoints,
lose replies, and delete snapshots."""

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from es_django import ConcurrencyError, Repository, StreamId, event_store
from es_django.errors import AlreadyAppended
from es_django.testing import in_memory
from tests.conformance.tampering import delete_snapshot
from tests.domain import Annotated, Ledger


def release(number: int) -> type[Ledger]:
    """Return the aggregate class of a release. Other releases cannot read its snapshots."""
    meta = type("Meta", (), {"category": "noted", "snapshot_every": 2, "snapshot_version": number})
    return type("Noted", (Ledger,), {"Meta": meta, "__module__": __name__})


KEYS = ("n-1", "n-2")
CLASSES = {"a": release(1), "b": release(2)}
REPOSITORIES = {client: Repository(cls) for client, cls in CLASSES.items()}


class Undo(Exception):
    pass


class Machine(RuleBasedStateMachine):
    """The model is the list of notes of each stream. A client is an aggregate and the notes that it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, list[int]] = {key: [] for key in KEYS}
        self.clients: dict[str, dict[str, tuple[Ledger, int, list[int]]]] = {"a": {}, "b": {}}
        self.number = 0

    @initialize()
    def begin(self) -> None:
        for client, aggregates in self.clients.items():
            for key in KEYS:
                aggregates[key] = (CLASSES[client](key), 0, [])

    @rule(client=st.sampled_from("ab"), key=st.sampled_from(KEYS))
    def reload(self, client: str, key: str) -> None:
        if self.stored[key]:
            ledger = REPOSITORIES[client].get(key)
            assert ledger.notes == self.stored[key]
            self.clients[client][key] = (ledger, len(self.stored[key]), [])

    @rule(client=st.sampled_from("ab"), key=st.sampled_from(KEYS), count=st.integers(1, 3))
    def annotate(self, client: str, key: str, count: int) -> None:
        ledger, _, pending = self.clients[client][key]
        for _ in range(count):
            self.number += 1
            ledger.annotate(self.number)
            pending.append(self.number)

    @rule(client=st.sampled_from("ab"), key=st.sampled_from(KEYS))
    def refuse(self, client: str, key: str) -> None:
        ledger, *_ = self.clients[client][key]
        with pytest.raises(ValueError, match="refused"):
            ledger.annotate("refused")

    @rule(client=st.sampled_from("ab"), key=st.sampled_from(KEYS))
    def save(self, client: str, key: str) -> None:
        self._save(client, key)

    @rule(client=st.sampled_from("ab"))
    def save_both(self, client: str) -> None:
        clients = self.clients[client]
        fits = all(not clients[key][2] or clients[key][1] == len(self.stored[key]) for key in KEYS)
        try:
            REPOSITORIES[client].save_all([clients[key][0] for key in KEYS])
        except ConcurrencyError:
            assert not fits
        else:
            assert fits
            for key in KEYS:
                self._stored(client, key)

    @rule(client=st.sampled_from("ab"), key=st.sampled_from(KEYS), inner=st.booleans())
    def save_and_roll_back(self, client: str, key: str, inner: bool) -> None:
        ledger, base, pending = self.clients[client][key]
        if base != len(self.stored[key]):
            return
        with event_store.transaction():
            try:
                with event_store.transaction():
                    REPOSITORIES[client].save(ledger)
                    assert ledger.pending_events == []
                    if inner:
                        with event_store.transaction():
                            ledger.annotate(0)
                            REPOSITORIES[client].save(ledger)
                    raise Undo
            except Undo:
                pass
        if inner:
            pending.append(0)
        assert ledger.pending_events == [Annotated(note=note) for note in pending]

    @rule(client=st.sampled_from("ab"), key=st.sampled_from(KEYS))
    def save_and_lose_the_reply(self, client: str, key: str) -> None:
        """Append, and save the same events again in a transaction, like a client that lost the reply to its commit."""
        ledger, base, pending = self.clients[client][key]
        if base != len(self.stored[key]) or not pending:
            return
        events = list(ledger._unsaved())
        event_store.append(ledger.stream, events, expected=ledger.committed_version)
        with pytest.raises(AlreadyAppended), event_store.transaction():
            REPOSITORIES[client].save(ledger)
        self.stored[key] += pending
        self.reload(client, key)

    @rule(key=st.sampled_from(KEYS))
    def delete_the_snapshot(self, key: str) -> None:
        delete_snapshot(StreamId("noted", key))

    def _save(self, client: str, key: str) -> None:
        ledger, base, pending = self.clients[client][key]
        fits = not pending or base == len(self.stored[key])
        try:
            REPOSITORIES[client].save(ledger)
        except ConcurrencyError:
            assert not fits
            assert len(ledger.pending_events) == len(pending)
        else:
            assert fits
            self._stored(client, key)

    def _stored(self, client: str, key: str) -> None:
        ledger, base, pending = self.clients[client][key]
        self.stored[key] += pending
        self.clients[client][key] = (ledger, base + len(pending), [])

    @invariant()
    def the_store_is_the_model(self) -> None:
        for key, notes in self.stored.items():
            recorded = list(event_store.read_stream(StreamId("noted", key)))
            assert [each.event for each in recorded] == [Annotated(note=note) for note in notes]
            assert [each.version for each in recorded] == list(range(1, len(notes) + 1))
        assert len(event_store.read_all().events) == sum(map(len, self.stored.values()))

    @invariant()
    def every_client_has_what_it_saved_and_what_it_has_not(self) -> None:
        for client in self.clients.values():
            for ledger, base, pending in client.values():
                assert (ledger.committed_version, ledger.version) == (base, base + len(pending))
                assert ledger.pending_events == [Annotated(note=note) for note in pending]


def run(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


class TestMachine:
    @pytest.mark.django_db
    @pytest.mark.slow
    def test_the_database_behaves_like_the_model(self) -> None:
        class InTransaction(Machine):
            """Undo each example: it runs in a savepoint of the test's transaction."""

            def __init__(self) -> None:
                self.block = transaction.atomic()
                self.block.__enter__()
                super().__init__()

            def teardown(self) -> None:
                transaction.set_rollback(True)
                self.block.__exit__(None, None, None)

        run(InTransaction)

    def test_the_memory_store_behaves_like_the_model(self) -> None:
        class InMemory(Machine):
            def __init__(self) -> None:
                self.block = in_memory()
                self.block.__enter__()
                super().__init__()

            def teardown(self) -> None:
                self.block.__exit__(None, None, None)

        run(InMemory)
