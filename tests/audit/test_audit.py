"""An audit finds each change to the database that bypassed the store, and reports nothing else."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from threading import Event as Signal
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from es_django import NO_STREAM, Aggregate, Repository, StreamId, applies, event_store, outbox, publishes
from es_django.audit import Audit, Finding
from es_django.audit.rows import _blocks
from es_django.errors import DefinitionError
from es_django.models import (
    InboxReceipt,
    Lease,
    OutboxMessage,
    ProjectionCheckpoint,
    SkippedEvent,
    StoredEvent,
    Stream,
)
from es_django.models import Snapshot as StoredSnapshot
from es_django.projections import run_projection
from es_django.store.append_only import NAME, create_trigger
from es_django.store.snapshots import SnapshotCodec
from es_django.store.writes import Snapshot
from tests.audit.conftest import execute, unchecked
from tests.conformance.tampering import add_events, change_snapshot, forget_events, put_snapshot
from tests.domain import Annotated, Deposited, Ledger, LedgerOpened
from tests.projections.effects import count
from tests.threads import threads

RESTORE = "Run manage.py migrate to restore it"

pytestmark = pytest.mark.django_db(transaction=True)


class Noted(Annotated):
    class Meta:
        name = "tests.audit.noted"


class Cached(Ledger):
    class Meta:
        category = "audited"
        snapshot_every = 2

    @applies
    def _noted(self, event: Noted) -> None:
        raise ValueError(f"this code takes no {event.note}")


@publishes(Noted, destination="tests")
def noted(staged: object) -> dict[str, str]:
    return {"note": "secret"}


CACHED = StreamId(Cached.category, "l-1")


def findings() -> list[Finding]:
    return list(Audit().findings())


def texts(kind: str) -> list[str]:
    """Return the texts of all findings, which must all be of this kind."""
    found = findings()
    assert {each.kind for each in found} <= {kind}, found
    return [each.text for each in found]


def of_kind(kind: str) -> list[str]:
    return [each.text for each in findings() if each.kind == kind]


def save(deposits: int, key: str = "l-1") -> None:
    """Store a stream of an opening and of deposits, with a snapshot after each second event."""
    ledger = Cached(key)
    ledger.record(LedgerOpened(owner="Ada"))
    Repository(Cached).save(ledger)
    for amount in range(1, deposits + 1):
        ledger.deposit(amount)
        Repository(Cached).save(ledger)


def position(version: int, stream: StreamId = CACHED) -> int:
    return next(each.position for each in event_store.read_stream(stream) if each.version == version)


def delete_event(version: int) -> None:
    with unchecked():
        StoredEvent.objects.filter(stream__key="l-1", version=version).delete()


def position_of_first() -> int:
    return StoredEvent.objects.earliest("pk").pk


def cached_state(balance: int) -> Snapshot:
    codec = SnapshotCodec(Cached)
    encoded = codec.encode({"owner": "Ada", "balance": Decimal(balance), "notes": []})
    assert encoded is not None
    return Snapshot(codec.schema, encoded)


MODELS = (InboxReceipt, Lease, OutboxMessage, ProjectionCheckpoint, SkippedEvent, StoredSnapshot, StoredEvent, Stream)


class TestAudit:
    def test_data_written_by_the_store_have_no_findings(self) -> None:
        save(deposits=4)
        save(deposits=3, key="l-2")
        count(1, 2)
        outbox.send("tests", type="tests.plain", data=1)
        event_store.append(StreamId("notes", "n-1"), [Noted(note=1), Noted(note=2)], expected=NO_STREAM)
        run_projection("tests.effects")
        event_store.archive(CACHED)
        audit = Audit()
        assert list(audit.findings()) == []
        assert audit.counts == {"streams": 5, "events": 13, "snapshots": 2, "messages": 3, "checkpoints": 1}

    def test_an_empty_store_has_no_findings(self) -> None:
        assert findings() == []

    @pytest.mark.slow
    def test_concurrent_appends_have_no_findings(self) -> None:
        ended = Signal()

        def append(name: str) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                save(deposits=3, key=f"{name}-{number}")
                Repository(Cached).execute(f"{name}-1", lambda ledger: ledger.deposit(1))

        with threads(2) as submit:
            writers = [submit(append, name) for name in ("a", "b")]
            found = [finding for _ in range(10) for finding in findings()]
            ended.set()
            for writer in writers:
                writer.result(30)
        assert found == []
        assert Stream.objects.count() > 2

    def test_an_expired_lease_is_not_a_finding(self) -> None:
        Lease.objects.create(name="job", owner="gone:1", token=uuid4(), expires_at="2020-01-01T00:00:00Z")
        assert findings() == []


class TestStreams:
    def test_missing_events_are_a_gap(self) -> None:
        save(deposits=5)
        StoredSnapshot.objects.all().delete()
        later = position(5)
        for version in (2, 3, 4):
            delete_event(version)
        assert texts("gap") == [f"stream 'audited' 'l-1' lacks versions 2 to 4, before version 5 at position {later}"]

    def test_a_missing_first_event_is_a_gap(self) -> None:
        save(deposits=1)
        StoredSnapshot.objects.all().delete()
        later = position(2)
        forget_events(CACHED, up_to=1)
        assert texts("gap") == [f"stream 'audited' 'l-1' lacks version 1, before version 2 at position {later}"]

    def test_a_missing_last_event_leaves_the_stream_at_another_version(self) -> None:
        save(deposits=3)
        StoredSnapshot.objects.all().delete()
        delete_event(4)
        assert texts("stream version") == ["stream 'audited' 'l-1' is at version 4, but its last event has version 3"]

    @pytest.mark.parametrize("version", [1, 7])
    def test_a_stream_at_another_version_than_its_events_is_found(self, version: int) -> None:
        save(deposits=0)
        save(deposits=2, key="l-2")
        StoredSnapshot.objects.all().delete()
        Stream.objects.filter(key="l-2").update(version=version)
        assert texts("stream version") == [
            f"stream 'audited' 'l-2' is at version {version}, but its last event has version 3"
        ]

    def test_two_events_with_one_version_are_a_duplicate(self, without: Callable[[type[Model], str], None]) -> None:
        save(deposits=1)
        without(StoredEvent, "es_django_event_version")
        create_trigger(connection)
        event = StoredEvent.objects.get(stream__key="l-1", version=2)
        first, event.pk, event.event_id = event.pk, None, uuid4()
        event.save(force_insert=True)
        assert of_kind("missing constraint") == ["es_django_event has no es_django_event_version"]
        assert of_kind("duplicate") == [
            f"stream 'audited' 'l-1' has version 2 at positions {first} and {StoredEvent.objects.latest('pk').pk}"
        ]

    def test_a_version_at_a_lower_position_than_its_predecessor_is_out_of_order(self) -> None:
        save(deposits=0)
        stream = Stream.objects.get()
        event = StoredEvent.objects.get()
        for version, place in ((2, event.pk + 11), (3, event.pk + 10)):
            event.pk, event.version, event.event_id = place, version, uuid4()
            event.data = {"amount": "1"}
            event.type = "tests.deposited"
            event.save(force_insert=True)
        Stream.objects.filter(pk=stream.pk).update(version=3)
        assert of_kind("order") == [
            f"stream 'audited' 'l-1' has version 3 at position {event.pk}, before version 2 at position {event.pk + 1}"
        ]

    def test_events_without_a_stream_are_orphans(self) -> None:
        for key in ("l-0", "l-1", "l-2"):
            save(deposits=1, key=key)
        StoredSnapshot.objects.all().delete()
        first, last = position(1), position(2)
        stream = Stream.objects.get(key="l-1").pk
        end = Stream.objects.get(key="l-2").pk
        with unchecked():
            Stream.objects.filter(pk__in=[stream, end])._raw_delete("default")
        assert texts("orphan")[0] == (
            f"stream {stream} does not exist, but has 2 events: version 1 at position {first} "
            f"to version 2 at position {last}"
        )
        assert len(texts("orphan")) == 2


class TestEvents:
    @pytest.mark.parametrize(
        ("type", "schema_version", "data", "reason"),
        [
            ("tests.forgotten", 1, {}, "no event class is named 'tests.forgotten'"),
            ("tests.deposited", 9, {"amount": "1"}, "newer than"),
            ("tests.deposited", 1, {"amount": []}, "Expected"),
        ],
    )
    def test_an_event_that_the_current_code_cannot_read_is_found(
        self, type: str, schema_version: int, data: dict[str, object], reason: str
    ) -> None:
        save(deposits=0)
        add_events(CACHED, (type, schema_version, data))
        (text,) = texts("unreadable")
        place = StoredEvent.objects.get(version=2).pk
        assert re.match(rf"position {place}: event 2 of stream 'audited' 'l-1' \({type}\)", text)
        assert reason in text

    def test_unreadable_metadata_are_found(self) -> None:
        save(deposits=0)
        with unchecked():
            if connection.vendor == "sqlite":
                execute("DROP TRIGGER es_django_event_append_only")
            StoredEvent.objects.update(metadata={"user": 7})
        create_trigger(connection)
        (text,) = texts("unreadable")
        assert text.startswith(f"position {position_of_first()}: metadata of event 1 of stream 'audited' 'l-1': ")


class TestSnapshots:
    def test_a_snapshot_that_differs_from_the_replay_is_found(self) -> None:
        save(deposits=4)
        put_snapshot(CACHED, 4, cached_state(balance=6))
        assert findings() == []
        put_snapshot(CACHED, 4, cached_state(balance=7))
        assert texts("snapshot") == ["stream 'audited' 'l-1', version 4: a replay gives another value of balance"]

    def test_code_that_changed_under_the_same_snapshot_version_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def ignore(self: Cached, event: Deposited) -> None: ...

        save(deposits=4)
        changed: dict[type, object] = {**Cached._appliers, Deposited: ignore}
        monkeypatch.setattr(Cached, "_appliers", changed)
        assert texts("snapshot") == ["stream 'audited' 'l-1', version 4: a replay gives another value of balance"]
        monkeypatch.setattr(Cached, "snapshot_version", 2)
        assert findings() == []

    def test_a_class_that_cannot_have_snapshots_is_skipped(self) -> None:
        class Opaque(Aggregate):
            thing: complex = 0j

            class Meta:
                snapshot_every = 1

        with pytest.raises(DefinitionError):
            Repository(Opaque)
        save(deposits=4)
        assert findings() == []

    def test_each_snapshot_of_a_stream_is_compared(self) -> None:
        save(deposits=1)
        stream = Stream.objects.get()
        StoredSnapshot.objects.create(stream=stream, version=3, schema="cached:of-old", state="{}")
        assert texts("snapshot") == ["stream 'audited' 'l-1' is at version 2, its snapshot at version 3"]
        StoredSnapshot.objects.filter(schema="cached:of-old").update(version=1)
        audit = Audit()
        assert list(audit.findings()) == []
        assert (audit.counts["snapshots"], audit.counts["snapshots of another schema"]) == (2, 1)

    def test_a_snapshot_ahead_of_its_stream_is_found(self) -> None:
        save(deposits=1)
        change_snapshot(CACHED, version=5)
        assert texts("snapshot") == ["stream 'audited' 'l-1' is at version 2, its snapshot at version 5"]

    def test_a_snapshot_that_does_not_decode_is_found(self) -> None:
        save(deposits=1)
        put_snapshot(CACHED, 2, Snapshot(SnapshotCodec(Cached).schema, '{"balance": []}'))
        assert texts("snapshot") == ["stream 'audited' 'l-1', version 2: the state does not decode"]

    def test_a_snapshot_of_another_schema_is_counted_and_not_a_finding(self) -> None:
        save(deposits=1)
        put_snapshot(CACHED, 2, Snapshot("cached:of-old", '{"balance": []}'))
        audit = Audit()
        assert list(audit.findings()) == []
        assert audit.counts["snapshots of another schema"] == 1

    @pytest.mark.parametrize(
        ("type", "data", "reason"),
        [
            ("tests.counted", {"number": 1}, "the events cannot be replayed: "),
            ("tests.audit.noted", {"note": "thing"}, "an @applies method raised ValueError"),
        ],
    )
    def test_a_snapshot_of_a_stream_that_cannot_be_replayed_is_found(
        self, type: str, data: dict[str, object], reason: str
    ) -> None:
        save(deposits=1)
        add_events(CACHED, (type, 1, data))
        change_snapshot(CACHED, version=3)
        (text,) = texts("snapshot")
        assert text.startswith(f"stream 'audited' 'l-1', version 3: {reason}")

    def test_a_snapshot_without_a_stream_is_found(self) -> None:
        save(deposits=1)
        stream = Stream.objects.get().pk
        with unchecked():
            StoredEvent.objects.all().delete()
            Stream.objects.all()._raw_delete("default")
        assert texts("snapshot") == [f"stream {stream} of the snapshot at version 2 does not exist"]


class TestMessages:
    def test_a_message_of_a_missing_event_is_found(self) -> None:
        event_store.append(StreamId("notes", "n-1"), [Noted(note=1)], expected=NO_STREAM)
        OutboxMessage.objects.update(stream_version=4)
        message_id = OutboxMessage.objects.get().message_id
        assert texts("message") == [
            f"message {message_id} refers to event 4 of stream 'notes' 'n-1', which does not exist"
        ]

    def test_a_claim_that_no_relay_takes_over_is_found_after_an_hour(self) -> None:
        message_id = outbox.send("tests", type="tests.plain", data=1)
        now = timezone.now()
        claim = {"status": "claimed", "claimed_by": "gone:1"}
        OutboxMessage.objects.update(**claim, claimed_until=now - timedelta(minutes=50))
        assert findings() == []
        OutboxMessage.objects.update(**claim, claimed_until=now - timedelta(minutes=70))
        (text,) = texts("claim")
        assert text.startswith(f"message {message_id} to tests: the claim of gone:1 expired at 20")


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("field", "place", "lost"),
        [
            ("position", "is at position {}", "new events"),
            ("side_effects", "did its side effects up to position {}", "side effects of new events"),
        ],
    )
    def test_a_checkpoint_beyond_the_end_of_the_log_is_found(self, field: str, place: str, lost: str) -> None:
        count(1)
        run_projection("tests.effects")
        end = StoredEvent.objects.latest("pk").pk
        effects = ProjectionCheckpoint.objects.filter(name="tests.effects")
        effects.update(**{field: [[0, 1, end + 1]] if field == "side_effects" else end + 1})
        assert texts("checkpoint") == [
            f"projection tests.effects {place.format(end + 1)}, but the log ends at {end}: "
            f"{lost} up to there would be left out"
        ]

    def test_a_checkpoint_without_a_projection_is_found(self) -> None:
        ProjectionCheckpoint.objects.create(name="tests.renamed")
        (text,) = texts("checkpoint")
        assert text.startswith("projection tests.renamed is not registered")
        assert "delete its row in es_django_projectioncheckpoint" in text

    @pytest.mark.requires_postgresql
    def test_a_checkpoint_at_a_position_of_a_rolled_back_append_is_not_a_finding(self) -> None:
        count(1)
        execute("SELECT nextval('es_django_event_position_seq')")
        run_projection("tests.effects")
        assert ProjectionCheckpoint.objects.get().position > StoredEvent.objects.latest("pk").pk
        assert findings() == []


class TestRows:
    def test_a_row_that_violates_a_check_is_found(self) -> None:
        outbox.send("tests", type="tests.plain", data=1)
        with unchecked():
            if connection.vendor == "postgresql":
                # PostgreSQL checks existing rows when it adds a constraint, unless the constraint is NOT VALID
                execute("ALTER TABLE es_django_outboxmessage DROP CONSTRAINT es_django_outbox_status_fits")
            OutboxMessage.objects.update(status="dead")
        if connection.vendor == "postgresql":
            (check,) = [each for each in OutboxMessage._meta.constraints if each.name == "es_django_outbox_status_fits"]
            with connection.schema_editor() as editor:
                execute(f"{check.create_sql(OutboxMessage, editor)} NOT VALID")
        try:
            assert texts("check") == [
                f"es_django_outboxmessage, id {OutboxMessage.objects.get().pk} violates es_django_outbox_status_fits"
            ]
        finally:
            OutboxMessage.objects.all().delete()

    @pytest.mark.parametrize("rows", [1, 2, 3, 7])
    def test_fault_c3_each_row_is_checked_once_whatever_the_size_of_a_block(
        self, rows: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("es_django.audit.rows.ROWS", rows)
        keys = [checkpoint.pk for checkpoint in spread_checkpoints()]
        blocks = _blocks(ProjectionCheckpoint.objects.all())
        assert [pk for block in blocks for pk in block.order_by("pk").values_list("pk", flat=True)] == keys

    def test_fault_c3_a_gap_between_keys_costs_no_statement(self) -> None:
        with CaptureQueriesContext(connection) as before:
            list(Audit().findings())
        spread_checkpoints()
        send_far_apart()
        with CaptureQueriesContext(connection) as after:
            assert "check" not in {finding.kind for finding in Audit().findings()}
        assert len(after) <= len(before) + 20


def spread_checkpoints() -> list[ProjectionCheckpoint]:
    """Store rows whose keys are up to 2^62 apart."""
    keys = (-(2**62), -5, 1, 10**9, 10**12, 2**62)
    return [ProjectionCheckpoint.objects.create(pk=key, name=f"at {key}") for key in keys]


def send_far_apart() -> None:
    outbox.send("tests", type="tests.plain", data=1)
    first = OutboxMessage.objects.get()
    for key in (first.pk + 10**12, 2**62):
        first.pk, first.message_id = key, uuid4()
        first.save(force_insert=True)


class TestSchema:
    @pytest.mark.parametrize(
        ("model", "name"), [(model, each.name) for model in MODELS for each in model._meta.constraints], ids=str
    )
    def test_a_missing_constraint_is_found(
        self, model: type[Model], name: str, without: Callable[[type[Model], str], None]
    ) -> None:
        without(model, name)
        assert of_kind("missing constraint") == [f"{model._meta.db_table} has no {name}"]

    def test_rows_that_a_missing_unique_key_let_in_are_a_duplicate(
        self, without: Callable[[type[Model], str], None]
    ) -> None:
        outbox.send("tests", type="tests.plain", data=1, message_id=UUID(int=7))
        without(OutboxMessage, "es_django_outbox_message_id")
        message = OutboxMessage.objects.get()
        first, message.pk = message.pk, None
        message.save(force_insert=True)
        assert of_kind("missing constraint") == ["es_django_outboxmessage has no es_django_outbox_message_id"]
        assert of_kind("duplicate") == [
            f"es_django_outboxmessage has message_id {UUID(int=7)} 2 times, from id {first} to {message.pk}"
        ]

    def test_a_missing_index_is_found(self, without: Callable[[type[Model], str], None]) -> None:
        without(OutboxMessage, "es_django_outbox_pending")
        assert of_kind("missing index") == ["es_django_outboxmessage has no es_django_outbox_pending"]

    @pytest.mark.requires_postgresql
    @pytest.mark.django_db(transaction=False)
    @pytest.mark.parametrize(
        ("statement", "text"),
        [
            ("ALTER TABLE es_django_event ALTER type DROP NOT NULL", "es_django_event.type allows NULL"),
            (
                "ALTER TABLE es_django_snapshot DROP CONSTRAINT es_django_snapshot_pkey",
                "es_django_snapshot has no primary key",
            ),
            (
                "DO $$ BEGIN EXECUTE (SELECT 'ALTER TABLE es_django_event DROP CONSTRAINT ' || conname "
                "FROM pg_constraint WHERE conrelid = 'es_django_event'::regclass AND contype = 'f'); END $$",
                "es_django_event.stream_id has no foreign key",
            ),
        ],
    )
    def test_a_missing_constraint_of_a_column_is_found(self, statement: str, text: str) -> None:
        execute(statement)
        assert text in of_kind("missing constraint")

    def test_a_missing_trigger_is_found(self) -> None:
        table = " ON es_django_event" if connection.vendor == "postgresql" else ""
        execute(f"DROP TRIGGER es_django_event_append_only{table}")
        try:
            found = texts("missing trigger")
        finally:
            create_trigger(connection)
        assert found == [f"es_django_event has no trigger {NAME}: events can be changed. {RESTORE}"]

    @pytest.mark.requires_postgresql
    def test_a_disabled_trigger_is_found(self) -> None:
        execute("ALTER TABLE es_django_event DISABLE TRIGGER es_django_event_append_only")
        try:
            found = texts("missing trigger")
        finally:
            create_trigger(connection)
        assert found == [f"trigger {NAME} on es_django_event is disabled: events can be changed. {RESTORE}"]

    @pytest.mark.requires_postgresql
    def test_a_sequence_that_was_not_restored_is_found(self) -> None:
        count(1, 2)
        newest = StoredEvent.objects.latest("pk").pk
        execute(f"SELECT setval('es_django_event_position_seq', {newest - 1})")
        assert texts("sequence") == [
            f"the sequence of es_django_event.position is at {newest - 1}, but {newest} is stored: set it to {newest}, "
            f"with SELECT setval('es_django_event_position_seq', {newest})"
        ]
