"""Run a function of a test in several processes, on the database of the test."""

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any

spawn = get_context("spawn")  # a fork would share the parent's database connections


def run_processes(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, timeout: float = 60
) -> list[Any]:
    """Call `function(barrier, *args)` for each `args` of `arguments`, each in its own process.

    `function` must be a top-level function of a module. `barrier` has one party for each process.
    Return the results in order, when all processes have ended. Raise the exception of a process, with its traceback
    as a note.
    """
    from django.db import connections

    databases = {connection.alias: connection.settings_dict["NAME"] for connection in connections.all()}
    if any(connection.in_atomic_block for connection in connections.all(initialized_only=True)):
        raise RuntimeError("other processes see only committed rows: use django_db(transaction=True)")
    call = pickle.dumps(function)
    barrier = spawn.Barrier(len(arguments), timeout=timeout)
    processes: dict[Connection, SpawnProcess] = {}
    try:
        for args in arguments:
            receiver, sender = spawn.Pipe(duplex=False)
            child_args = (sender, databases, call, barrier, pickle.dumps(args))
            process = spawn.Process(target=_run, args=child_args, daemon=True)
            process.start()
            sender.close()
            processes[receiver] = process
        outcomes = _outcomes(processes, barrier, time.monotonic() + timeout)
    finally:
        for receiver, process in processes.items():
            process.kill()
            process.join()
            process.close()
            receiver.close()
    errors = [error for error, _ in outcomes if error is not None]
    # A failing process breaks the barrier, so the others raise BrokenBarrierError. Raise the original error first.
    for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error
    return [result for _, result in outcomes]


def die() -> None:
    """End the calling process without any clean-up, as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


Outcome = tuple[BaseException | None, Any]


def _outcomes(processes: Mapping[Connection, SpawnProcess], barrier: Barrier, deadline: float) -> list[Outcome]:
    outcomes: dict[Connection, Outcome] = {}
    while len(outcomes) < len(processes):
        open_ = [receiver for receiver in processes if receiver not in outcomes]
        ready = wait(open_, max(0, deadline - time.monotonic()))
        if not ready:
            late = [index for index, receiver in enumerate(processes) if receiver in open_]
            raise TimeoutError(f"processes {late} of {len(processes)} did not end in time")
        for receiver in open_:
            if receiver in ready:
                outcomes[receiver] = _outcome(receiver, processes[receiver])
                if outcomes[receiver][0] is not None:
                    barrier.abort()
    return [outcomes[receiver] for receiver in processes]


def _outcome(receiver: Connection, process: SpawnProcess) -> Outcome:
    try:
        error, result, trace = pickle.loads(receiver.recv_bytes())
    except EOFError:
        process.join()
        return RuntimeError(f"{process.name} ended with exit code {process.exitcode} and without a result"), None
    if error is not None:
        error.add_note(f"\nIn {process.name}:\n{trace}")
    return error, result


def _run(sender: Connection, databases: Mapping[str, str], call: bytes, barrier: Barrier, args: bytes) -> None:
    import django
    from django.conf import settings

    for alias, name in databases.items():
        settings.DATABASES[alias]["NAME"] = name
    django.setup()
    # Unpickling imports the function's module, which may import models, so it must follow django.setup().
    from django.db import connections

    error, result, trace = None, None, ""
    try:
        result = pickle.loads(call)(barrier, *pickle.loads(args))
    except BaseException as raised:
        error, trace = raised, traceback.format_exc()
    finally:
        connections.close_all()
    try:
        reply = pickle.dumps((error, result, trace))
        pickle.loads(reply)
    except Exception:
        reply = pickle.dumps((RuntimeError(f"{error or result!r} cannot be pickled"), None, trace))
    sender.send_bytes(reply)
