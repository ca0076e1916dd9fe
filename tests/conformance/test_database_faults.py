"""Every public operation raises `StorageError` when the database fails, whatever the fault, with and without DEBUG.

A new public operation needs a case here, or a reason in `WITHOUT_CASE`.
"""

import ast
import inspect
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import connection
from pytest_django import Settings

import es_django
from es_django import (
    ANY,
    Aggregate,
    Message,
    Projection,
    Repository,
    StorageError,
    StreamId,
    StreamWrite,
    event_store,
    handles,
    outbox,
    projections,
)
from es_django.audit import Audit
from es_django.core.events import PendingEvent
from es_django.errors import EsDjangoError
from es_django.inbox import attempts, delivery, receipts, retries
from es_django.inbox.attempts import Attempt
from es_django.inbox.replay import replay
from es_django.leases import LeaseLock, lease_lock
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt, Stream
from es_django.monitoring import health
from es_django.outbox.backends import outbox_store
from es_django.outbox.idleness import has_open_messages
from es_django.outbox.port import Claim, Settlement
from es_django.outbox.relay import relay
from es_django.outbox.retention import prune_messages
from es_django.outbox.states import Transition
from es_django.projections.failure_policy import record_failure
from es_django.projections.idleness import has_work
from es_django.store import database
from es_django.store.backends import store_for
from es_django.store.base import EventStore
from es_django.store.database import DatabaseEventStore
from es_django.testing import Scenario, outbox_messages
from tests.domain import Annotated, Deposited, Ledger

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]

Call = Callable[[], Any]

STREAM = StreamId("ledger", "l-1")
LATER = timedelta(days=1)
ledgers = Repository(Ledger)


class Case(NamedTuple):
    call: Call
    writes: bool = True


def reads(call: Call) -> Case:
    return Case(call, writes=False)


def of(call: Callable[[], Any]) -> Call:
    """Return a call of an asynchronous function."""

    async def run() -> Any:
        return await call()

    return async_to_sync(run)


def event() -> Deposited:
    return Deposited(amount=Decimal(1))


def opened() -> Ledger:
    return Ledger.open(str(uuid4()))


def message() -> Message:
    return Message(type="noted", data=None, destination="tests")


def enter(block: Any) -> None:
    with block:
        pass


def two_writes() -> list[StreamWrite]:
    return [StreamWrite(StreamId("ledger", key), [event()], ANY) for key in ("l-1", "l-2")]


def send_by_outbox() -> Any:
    return outbox.send("tests", type="noted", data=None)


def store() -> DatabaseEventStore:
    found = store_for()
    assert isinstance(found, DatabaseEventStore)
    return found


def checkpoint() -> Any:
    model = apps.get_model("es_django", "ProjectionCheckpoint")
    return model(name="statements", partition=0, partitions=1, position=0)


CLAIM = Claim(1, 1, Message(type="noted", data=None, destination="tests"), "", None)

CASES: dict[str, Case] = {
    "event_store.append": Case(lambda: event_store.append(STREAM, [event()], expected=ANY)),
    "event_store.append_all": Case(lambda: event_store.append_all(two_writes())),
    "event_store.aappend": Case(of(lambda: event_store.aappend(STREAM, [event()], expected=ANY))),
    "event_store.aappend_all": Case(of(lambda: event_store.aappend_all(two_writes()))),
    "event_store.send": Case(lambda: event_store.send(message())),
    "event_store.archive": Case(lambda: event_store.archive(STREAM)),
    "event_store.aarchive": Case(of(lambda: event_store.aarchive(STREAM))),
    "event_store.read_stream": reads(lambda: list(event_store.read_stream(STREAM))),
    "event_store.aread_stream": reads(of(lambda: event_store.aread_stream(STREAM))),
    "event_store.read_all": reads(lambda: event_store.read_all()),
    "event_store.aread_all": reads(of(lambda: event_store.aread_all())),
    "event_store.version": reads(lambda: event_store.version(STREAM)),
    "event_store.aversion": reads(of(lambda: event_store.aversion(STREAM))),
    "event_store.contains": reads(lambda: event_store.contains(uuid4())),
    "event_store.load": reads(lambda: list(event_store.load(STREAM).tail)),
    "event_store.load_many": reads(lambda: event_store.load_many("ledger", ["l-1"])),
    "event_store.lock": Case(lambda: _append_under(event_store.lock(STREAM, None))),
    "event_store.transaction": Case(lambda: _append_under(event_store.transaction())),
    "event_store.safe_end": reads(lambda: event_store.safe_end()),
    "event_store.order_problems": reads(lambda: store().order_problems()),
    "event_store.read_to_newest": reads(lambda: store().read_to_newest(after=0, limit=1, types=[Deposited])),
    "Repository.get": reads(lambda: ledgers.get("l-1")),
    "Repository.aget": reads(of(lambda: ledgers.aget("l-1"))),
    "Repository.get_many": reads(lambda: ledgers.get_many(["l-1"])),
    "Repository.aget_many": reads(of(lambda: ledgers.aget_many(["l-1"]))),
    "Repository.exists": reads(lambda: ledgers.exists("l-1")),
    "Repository.aexists": reads(of(lambda: ledgers.aexists("l-1"))),
    "Repository.history": reads(lambda: list(ledgers.history("l-1"))),
    "Repository.ahistory": reads(of(lambda: ledgers.ahistory("l-1"))),
    "Repository.save": Case(lambda: ledgers.save(opened())),
    "Repository.asave": Case(of(lambda: ledgers.asave(opened()))),
    "Repository.save_all": Case(lambda: ledgers.save_all([opened(), opened()])),
    "Repository.asave_all": Case(of(lambda: ledgers.asave_all([opened(), opened()]))),
    "Repository.execute": Case(lambda: ledgers.execute("l-1", lambda ledger: ledger.deposit(1))),
    "Repository.aexecute": Case(of(lambda: ledgers.aexecute("l-1", lambda ledger: ledger.deposit(1)))),
    "Repository.lock": Case(lambda: _deposit_under_lock()),
    "projections.pause": Case(lambda: projections.pause("statements", by="Ada")),
    "projections.resume": Case(lambda: projections.resume("statements", by="Ada")),
    "projections.skip": Case(lambda: projections.skip("statements", 1, by="Ada")),
    "projections.start_rebuild": Case(lambda: projections.start_rebuild("statements", by="Ada")),
    "projections.run_projection": Case(lambda: projections.run_projection("statements")),
    # Its first query reads. A projection that fails later is logged, and the others go on.
    "projections.run_projections": reads(lambda: projections.run_projections()),
    "projections.wait_for": reads(lambda: projections.wait_for("statements", timeout=0)),
    "projections.await_for": reads(of(lambda: projections.await_for("statements", 1, timeout=0))),
    "outbox.send": Case(send_by_outbox),
    "outbox.asend": Case(of(lambda: outbox.asend("tests", type="noted", data=None))),
    "outbox.requeue": Case(lambda: outbox.requeue([uuid4()], by="Ada")),
    "outbox.release": Case(lambda: outbox.release([uuid4()], by="Ada")),
    "outbox.discard": Case(lambda: outbox.discard([uuid4()], by="Ada")),
    "audit.Audit.findings": reads(lambda: list(Audit().findings())),
    "testing.outbox_messages": reads(outbox_messages),
    "leases.lease_lock": Case(lambda: enter(lease_lock("tests"))),
    "leases.LeaseLock.acquire": Case(lambda: LeaseLock("tests", 30, "default").acquire()),
    "leases.LeaseLock.renew": Case(lambda: LeaseLock("tests", 30, "default").renew()),
    "leases.LeaseLock.release": Case(lambda: LeaseLock("tests", 30, "default").release()),
    "monitoring.health.status": reads(health.status),
    "outbox.relay.relay": Case(lambda: relay("tests")),
    "outbox.retention.prune_messages": reads(lambda: prune_messages(LATER)),
    "outbox.idleness.has_open_messages": reads(has_open_messages),
    "outbox.database.DatabaseOutbox.claim": Case(lambda: outbox_store().claim("tests", "w", limit=1, lease=1)),
    "outbox.database.DatabaseOutbox.extend": Case(lambda: outbox_store().extend("w", [CLAIM], lease=1)),
    "outbox.database.DatabaseOutbox.settle": Case(lambda: outbox_store().settle("w", [Settlement(CLAIM)])),
    "outbox.database.DatabaseOutbox.change_status": Case(
        lambda: outbox_store().change_status([uuid4()], Transition.DISCARD)
    ),
    "projections.idleness.has_work": reads(has_work),
    "projections.failure_policy.record_failure": Case(lambda: record_failure(checkpoint(), [1], ValueError("tests"))),
    "inbox.attempts.begin": Case(lambda: attempts.begin("tests", message(), {}, None)),
    "inbox.attempts.run": Case(lambda: attempts.run(Attempt("tests", "m-1", 1), message(), lambda message: None)),
    "inbox.attempts.settle": Case(lambda: attempts.settle(Attempt("tests", "m-1", 1), "tests", None)),
    "inbox.delivery.receive": Case(lambda: delivery.receive(to_wire(message()))),
    "inbox.receipts.handle_once": Case(lambda: receipts.handle_once("tests", message(), lambda message: None)),
    "inbox.receipts.dead_letter": Case(lambda: receipts.dead_letter("tests", message(), "tests", attempt=1)),
    "inbox.receipts.has_other_content": reads(lambda: receipts.has_other_content("m-1", "1")),
    "inbox.receipts.keep_conflict": Case(lambda: receipts.keep_conflict("tests", str(uuid4()), "1", {})),
    "inbox.receipts.insert_dead_receipt": Case(
        lambda: receipts.insert_dead_receipt("tests", str(uuid4()), {}, "tests", attempt=1)
    ),
    "inbox.receipts.outcome_of_receipt": reads(lambda: receipts.outcome_of_receipt("tests", "m-1")),
    "inbox.receipts.prune_receipts": Case(lambda: receipts.prune_receipts(LATER)),
    "inbox.replay.replay": Case(lambda: replay("tests", "dead-1")),
    "inbox.retries.hand_over": reads(lambda: retries.hand_over(lambda due: [None for _ in due])),
}

NO_QUERY = "it makes no query"
CALLER = "it runs inside the storage_errors() block of its caller"

WITHOUT_CASE: dict[str, str] = {
    **dict.fromkeys(
        (f"projections.failure_policy.{name}" for name in ("has_stepped_aside", "needs_newer_code")), NO_QUERY
    ),
    **dict.fromkeys(("applies", "handles", "projects", "publishes", "upcasts", "metadata", "beat_schedule"), NO_QUERY),
    **dict.fromkeys(("outbox.publishes", "projections.projects", "projections.is_replaying"), NO_QUERY),
    **dict.fromkeys(("event_store.commit_tracker", "event_store.in_transaction", "Repository.store"), NO_QUERY),
    **dict.fromkeys(("event_store.connection", "testing.message", "testing.recorded", "testing.staged"), NO_QUERY),
    **dict.fromkeys(("testing.given", "testing.in_memory", "inbox.attempts.from_now"), NO_QUERY),
    **dict.fromkeys(("inbox.receipts.outcome_of_status", "inbox.receipts.content_of"), NO_QUERY),
    **dict.fromkeys(("inbox.receipts.identity_of", "inbox.receipts.storable_content"), NO_QUERY),
    **dict.fromkeys(("inbox.attempts.finish", "inbox.receipts.run_handler"), CALLER),
    **dict.fromkeys(("projections.handover.take_from_appends", "projections.handover.pause_checkpoint"), CALLER),
    "event_store.hold_inline_projections": "pause and start_rebuild call it in their transaction",
    "projections.handover.give_to_appends": "it logs the error, and the runner that calls it tries again later",
}

WITHOUT_CLASSES = (msgspec.Struct, Exception, Enum, StreamId, Aggregate, Projection, Scenario)
"""Data, and classes whose methods make no query."""

WITHOUT_MODULES = {"admin", "management", "migrations", "store"}
"""The folders whose functions no project calls, or that `event_store` covers."""


def _append_under(block: Any) -> None:
    with block:
        event_store.append(STREAM, [event()], expected=ANY)


def _deposit_under_lock() -> None:
    with ledgers.lock("l-1") as ledger:
        ledger.deposit(1)


def _public_of(prefix: str, found: object) -> Iterator[str]:
    """Yield the name of a function, or the names of the public methods of a class."""
    if inspect.isfunction(found):
        yield prefix
    elif inspect.isclass(found) and not issubclass(found, WITHOUT_CLASSES):
        for name, member in vars(found).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                yield f"{prefix}.{name}"


def _public_names() -> set[str]:
    names: set[str] = set()
    for package, prefix in ((es_django, ""), (outbox, "outbox."), (projections, "projections.")):
        for name in package.__all__:
            names |= set(_public_of(prefix + name, getattr(package, name)))
    for name in ("audit", "testing"):
        package = import_module(f"es_django.{name}")
        for exported, found in vars(package).items():
            if not exported.startswith("_"):
                names |= set(_public_of(f"{name}.{exported}", found))
    for kind in (EventStore, DatabaseEventStore):
        names |= {f"event_store.{name}" for name in vars(kind) if not name.startswith("_") and name != "using"}
    return names | _names_of_modules()


def _names_of_modules() -> set[str]:
    """Return the public functions of each module that translates errors of the database itself."""
    root = Path(es_django.__file__).parent
    names: set[str] = set()
    for file in root.rglob("*.py"):
        path = file.relative_to(root).with_suffix("").parts
        if path[0] in WITHOUT_MODULES or "storage_errors(" not in file.read_text():
            continue
        module: ModuleType = import_module(".".join(("es_django", *path)))
        defined = [each.name for each in ast.parse(file.read_text()).body if isinstance(each, _DEFINITIONS)]
        for name in defined:
            if not name.startswith("_") and getattr(projections, name, None) is not getattr(module, name):
                names |= set(_public_of(".".join((*path, name)), getattr(module, name)))
    # The package exports these under shorter names.
    return names - {"audit.verify.Audit.findings", "testing.outbox.outbox_messages"}


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class TestTable:
    def test_fault_b7_every_public_operation_has_a_case(self) -> None:
        public = _public_names()
        assert public - {*CASES, *WITHOUT_CASE} == set()
        assert set(WITHOUT_CASE) <= public


@contextmanager
def refused(patch: pytest.MonkeyPatch) -> Iterator[Call]:
    """The connection is closed, and a new one is refused."""

    def refuse(*args: object) -> None:
        driver: Any = connection
        raise driver.Database.OperationalError("connection refused")

    def strike() -> None:
        connection.close()
        patch.setattr(connection, "get_new_connection", refuse)

    yield strike


@contextmanager
def closed(patch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Code of the project, or the driver itself, has closed the connection of the driver."""
    yield lambda: connection.connection.close()


@contextmanager
def terminated(patch: pytest.MonkeyPatch) -> Iterator[Call]:
    """The server ends the session."""
    with _other_session() as session:
        yield lambda: session.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])


@contextmanager
def read_only(patch: pytest.MonkeyPatch) -> Iterator[Call]:
    """The session may only read, as after a failover."""
    statement = {"postgresql": "SET default_transaction_read_only = on", "sqlite": "PRAGMA query_only = ON"}
    yield lambda: _execute(statement[connection.vendor])


@contextmanager
def timed_out(patch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Each statement waits for a lock until its time is over."""
    with _other_session() as session:
        tables = ", ".join(model._meta.db_table for model in apps.get_app_config("es_django").get_models())

        def strike() -> None:
            _execute("SET statement_timeout = '20ms'")
            session.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")

        session.execute("BEGIN")
        yield strike


@contextmanager
def locked(patch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Another process has the write lock of SQLite."""
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    try:

        def strike() -> None:
            _execute("PRAGMA busy_timeout = 0")
            other.execute("BEGIN IMMEDIATE")

        yield strike
    finally:
        other.close()


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def _other_session() -> Iterator[Any]:
    driver: Any = connection
    parameters = {**driver.get_connection_params()}
    for name in ("cursor_factory", "context"):
        parameters.pop(name, None)
    with driver.Database.connect(**parameters, autocommit=True) as session:
        yield session


class Fault(NamedTuple):
    arrange: Callable[[pytest.MonkeyPatch], Any]
    hits_reads: bool
    is_retryable: bool = True


FAULTS: dict[str, dict[str, Fault]] = {
    "postgresql": {
        "refused": Fault(refused, hits_reads=True),
        "closed": Fault(closed, hits_reads=True),
        "terminated": Fault(terminated, hits_reads=True),
        "read_only": Fault(read_only, hits_reads=False),
        "timed_out": Fault(timed_out, hits_reads=True),
    },
    "sqlite": {
        "refused": Fault(refused, hits_reads=True),
        "closed": Fault(closed, hits_reads=True),
        "read_only": Fault(read_only, hits_reads=False, is_retryable=False),
        "locked": Fault(locked, hits_reads=False),
    },
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        faults = FAULTS[connection.vendor]
        metafunc.parametrize("fault", faults.values(), ids=faults)


@pytest.fixture(params=[False, True], ids=["", "debug"])
def _debug(request: pytest.FixtureRequest, settings: Settings) -> None:
    settings.DEBUG = request.param


def outcome(call: Call, *, is_retryable: bool = True) -> str:
    """Return the empty string if the call raises the `StorageError` that is due, else what happened."""
    try:
        returned = call()
    except StorageError as error:
        return "" if error.retryable == is_retryable else f"retryable: {error.retryable}: {error}"
    except EsDjangoError as error:
        return f"another error of es_django: {error!r}"
    except Exception as error:
        return f"a raw error: {type(error).__module__}.{error!r}"
    return f"returned {returned!r}"


def outcome_of_read(call: Call) -> str:
    """Return the empty string if the call is not hit by the fault, or raises a `StorageError`."""
    try:
        call()
    except EsDjangoError:
        return ""
    except Exception as error:
        return f"a raw error: {type(error).__module__}.{error!r}"
    return ""


def strike_and_call(fault: Fault, call: Call, *, writes: bool) -> str:
    connection.ensure_connection()
    try:
        with pytest.MonkeyPatch.context() as patch, ExitStack() as block:
            block.enter_context(fault.arrange(patch))()
            if writes or fault.hits_reads:
                return outcome(call, is_retryable=fault.is_retryable)
            return outcome_of_read(call)
    finally:
        connection.close()


@pytest.fixture
def _stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_django.inbox.handlers._handlers", {})
    handles("noted", consumer="tests")(lambda message: None)
    event_store.append(STREAM, [PendingEvent(Annotated(note=number)) for number in range(6)], expected=0)
    kept = {"status": "dead", "attempts": 1, "message": to_wire(message())}
    InboxReceipt.objects.create(consumer="tests", message_id="dead-1", **kept)


@pytest.mark.slow
@pytest.mark.usefixtures("_debug", "_stored")
class TestFaults:
    def test_fault_b7_every_operation_raises_a_storage_error(self, fault: Fault) -> None:
        found = {name: strike_and_call(fault, case.call, writes=case.writes) for name, case in CASES.items()}
        problems = [f"{name}: {what}" for name, what in found.items() if what]
        assert not problems, "\n".join(problems)


def kill() -> None:
    """End the session: the server does it on PostgreSQL, and the driver on SQLite."""
    if connection.vendor == "postgresql":
        with _other_session() as session:
            pid = connection.connection.info.backend_pid
            session.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    else:
        connection.connection.close()


def after_death(call: Call) -> str:
    kill()
    try:
        return outcome(call)
    finally:
        connection.close()


ITERATORS: dict[str, Callable[[], Iterator[Any]]] = {
    "event_store.read_stream": lambda: event_store.read_stream(STREAM),
    "event_store.read_stream backwards": lambda: event_store.read_stream(STREAM, backwards=True),
    "event_store.load": lambda: iter(event_store.load(STREAM).tail),
    "event_store.load with a schema": lambda: iter(event_store.load(STREAM, schema="ledger:1").tail),
    "Repository.history": lambda: ledgers.history("l-1"),
    "audit.Audit.findings": lambda: _audit_with_a_finding(),
}


def _audit_with_a_finding() -> Iterator[Any]:
    Stream.objects.update(version=7)
    return Audit().findings()


COMMITS = (
    *("event_store.append_all", "event_store.lock", "event_store.transaction", "Repository.lock"),
    *("Repository.save_all", "projections.pause", "projections.start_rebuild", "projections.run_projection"),
    *("outbox.discard", "outbox.relay.relay", "outbox.database.DatabaseOutbox.settle", "inbox.attempts.run"),
    *("inbox.receipts.handle_once", "inbox.receipts.prune_receipts", "inbox.replay.replay"),
)
"""The operations that have a transaction of their own."""


@pytest.mark.usefixtures("_debug", "_stored")
class TestHalfway:
    def test_fault_b7_an_iterator_raises_a_storage_error_in_its_middle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "PAGE_SIZE", 2)
        found = {}
        for name, begin in ITERATORS.items():
            iterator = begin()
            next(iterator)
            found[name] = after_death(lambda rest=iterator: list(rest))  # type: ignore[misc]
        assert not any(found.values()), found

    def test_fault_b7_a_failed_commit_is_a_storage_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        driver: Any = connection
        commit = driver._commit

        def die_and_commit() -> None:
            kill()
            commit()

        found = {}
        for name in COMMITS:
            with monkeypatch.context() as patch:
                patch.setattr(connection, "_commit", die_and_commit)
                found[name] = outcome(CASES[name].call)
            connection.close()
            assert event_store.version(STREAM) == 6, name
        assert not any(found.values()), found

    @pytest.mark.parametrize("name", ["event_store.lock", "event_store.transaction"])
    def test_fault_b7_a_session_that_ends_in_a_block_is_a_storage_error_at_its_end(self, name: str) -> None:
        blocks = {"event_store.lock": lambda: event_store.lock(STREAM, None)}
        blocks["event_store.transaction"] = event_store.transaction

        def work() -> None:
            with blocks[name]():
                event_store.append(STREAM, [event()], expected=ANY)
                kill()

        try:
            assert not outcome(work)
        finally:
            connection.close()
        assert event_store.version(STREAM) == 6

    def test_fault_b7_a_caller_that_swallows_the_error_commits_nothing(self) -> None:
        def work() -> None:
            with event_store.transaction():
                event_store.append(STREAM, [event()], expected=ANY)
                kill()
                assert not outcome(lambda: event_store.append(STREAM, [event()], expected=ANY))

        try:
            with suppress(StorageError):
                work()
        finally:
            connection.close()
        assert event_store.version(STREAM) == 6


@pytest.mark.requires_sqlite
@pytest.mark.usefixtures("_debug", "_stored")
class TestFullDatabase:
    def test_fault_b7_a_full_database_is_a_retryable_storage_error(self) -> None:
        large = [PendingEvent(Annotated(note="x" * 100_000))]
        data = "x" * 100_000
        calls: dict[str, Call] = {
            "append": lambda: event_store.append(STREAM, large, expected=ANY),
            "append_all": lambda: event_store.append_all([StreamWrite(STREAM, large, ANY)]),
            "send": lambda: outbox.send("tests", type="noted", data=data),
            "receive": lambda: delivery.receive({**to_wire(message()), "data": data}),
            "dead_letter": lambda: receipts.insert_dead_receipt("tests", "m-2", {"data": data}, "tests", attempt=1),
        }
        # Free pages would take the content.
        _execute("VACUUM")
        _execute("PRAGMA max_page_count = 1")
        try:
            problems = {name: outcome(call) for name, call in calls.items()}
        finally:
            connection.close()
        assert not any(problems.values()), problems
        assert event_store.version(STREAM) == 6
