"""Handlers that end, in many ways, and one that does nothing."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded

from es_django import HandlerRetry, Message, handles
from es_django.models import ProjectionCheckpoint
from tests.processes import die


def notes() -> Path:
    """Return the folder in which the handlers note that they began."""
    return Path(os.environ["TEST_DEATHS"])


@handles("tests.deadly", consumer="deadly")
def kill_the_worker(message: Message) -> None:
    with notes().joinpath("deaths").open("a") as deaths:
        deaths.write("x")
    die()


@handles("tests.harmless", consumer="harmless")
def do_nothing(message: Message) -> None:
    pass


@handles("tests.later", consumer="later")
def fail_at_the_first_attempt(message: Message) -> None:
    note = notes() / str(message.message_id)
    ProjectionCheckpoint.objects.create(name=f"effect {message.message_id}")
    if not note.exists():
        note.touch()
        raise HandlerRetry(after=3600)


def _hang() -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(SoftTimeLimitExceeded):
            time.sleep(0.1)


def _get_signal(number: signal.Signals) -> Callable[[], None]:
    def end() -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    return end


ENDS: dict[str, Callable[[], object]] = {
    "hard limit": _hang,
    "soft limit": lambda: time.sleep(60),
    "SIGKILL": die,
    "SIGTERM": _get_signal(signal.SIGTERM),
    "exit without clean-up": lambda: os._exit(0),
    "sys.exit": lambda: sys.exit(1),
    "revoked": _hang,
}
"""The ways in which a handler's first attempt ends."""


def end_at_the_first_attempt(message: Message) -> None:
    """End at the first attempt, as the message says. Have an effect that cannot happen twice."""
    note = notes() / str(message.message_id)
    ProjectionCheckpoint.objects.create(name=f"effect {message.message_id}")
    if not note.exists():
        note.touch()
        ENDS[message.data]()


handles("tests.ends", consumer="ending")(end_at_the_first_attempt)
