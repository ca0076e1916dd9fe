"""es_django beside similar packages, each in its own environment, on the same server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import kombu
import msgspec
from django.db import connection

from benchmarks.measure import Contender, Effort, Figure, Title, medians

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENTS = ROOT / "var" / "benchmarks" / "environments"
BROKER = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")


class Peer(msgspec.Struct, frozen=True):
    """A program that uses a package, and the pip installs that it needs."""

    name: str
    program: str
    last_argument: str
    steps: tuple[tuple[str, ...], ...] = ()


OURS = Peer("es_django", "with_es_django", BROKER)
STORES = (
    Peer("eventsourcing", "with_eventsourcing", "postgres", (("eventsourcing[postgres]==9.5.*", "psycopg[binary]"),)),
    Peer(
        "eventsourcing-django",
        "with_eventsourcing",
        "django",
        (("eventsourcing<9.5", "Django<6", "psycopg[binary]"), ("--no-deps", "eventsourcing-django==0.6")),
    ),
)
OUTBOXES = (
    Peer("django-celery-outbox", "with_celery_outbox", BROKER, (("django-celery-outbox==0.4.*", "psycopg[binary]"),)),
)

WORKS = (
    ("one", "append 1 event", "events", STORES, False, 1.5),
    ("ten", "append 10 events in one save", "events", STORES, False, 1.5),
    ("threads", "append 1 event, 4 threads", "events", STORES, False, 2.0),
    ("network", "append 1 event, 16 threads, 1 ms of network", "events", STORES, True, 8.0),
    ("load", "load 1,000 events", "aggregates", STORES, False, 5.0),
    ("send", "store 1 message in a transaction", "messages", OUTBOXES, False, 1.0),
    ("relay", "relay Celery tasks to RabbitMQ, confirmed", "messages", OUTBOXES, False, 1.0),
)


class Program:
    """A running program that returns one rate per request."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def rate(self, work: str) -> Contender:
        def run() -> float:
            assert self._process.stdin is not None
            print(work, file=self._process.stdin, flush=True)
            return float(self._read())

        return run

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended")
        return line


def python_of(peer: Peer) -> str:
    """Return the interpreter of the peer's environment, which is created if needed. Raise `CalledProcessError`."""
    if not peer.steps:
        return sys.executable
    folder = ENVIRONMENTS / peer.name
    complete = folder / "complete"
    python = str(folder / "bin" / "python")
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for step in peer.steps:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *step], check=True)
        complete.touch()
    return python


@contextmanager
def started(peer: Peer, effort: Effort) -> Iterator[tuple[Program, Program]]:
    """Start the peer's program twice: with its database on the same machine, and behind a millisecond of network."""
    with ExitStack() as stack:
        database = stack.enter_context(_database(f"es_django_{peer.name.replace('-', '_')}"))
        host, port, user, password = _server()
        proxy = [sys.executable, "-m", "benchmarks.peers.proxy", host, port]
        listening = subprocess.Popen(proxy, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        stack.callback(listening.kill)
        assert listening.stdout is not None
        away = listening.stdout.readline().strip()
        programs = []
        for address in ((host, port), ("127.0.0.1", away)):
            arguments = [database, *address, user, password, str(effort.of(1000)), peer.last_argument]
            program = Program([python_of(peer), "-m", f"benchmarks.peers.{peer.program}", *arguments])
            stack.callback(program.end)
            programs.append(program)
        near, far = programs
        yield near, far


@contextmanager
def _database(name: str) -> Iterator[str]:
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    try:
        yield name
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _server() -> tuple[str, str, str, str]:
    connection.ensure_connection()
    info = connection.connection.info
    return info.host, str(info.port), info.user, info.password or "-"


def measure(effort: Effort) -> Iterator[Figure]:
    with ExitStack() as stack:
        programs: dict[str, tuple[Program, Program]] = {}
        broker = stack.enter_context(kombu.Connection(BROKER))
        queue = kombu.Queue("es_django.benchmark.peers", channel=broker.channel(), durable=True)
        queue.declare()
        stack.callback(queue.delete)
        for peer in (OURS, *STORES, *OUTBOXES):
            try:
                programs[peer.name] = stack.enter_context(started(peer, effort))
            except (subprocess.CalledProcessError, RuntimeError) as error:
                if peer is OURS:
                    raise
                print(f"{peer.name} is skipped: {error}")
        for work, title, unit, peers, away, least in WORKS:
            there = [peer.name for peer in (OURS, *peers) if peer.name in programs]
            found = medians({name: programs[name][away].rate(work) for name in there}, effort)
            ours = found.pop(OURS.name)
            for name, rate in found.items():
                yield Figure(Title("peers", title, unit, beside=name), ours, rate, least)
