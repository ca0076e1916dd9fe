"""Deliveries that outlive a killed process: a publisher that notes each in a file, and what tests read there."""

import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import transaction

from es_django import Message, outbox
from es_django.errors import PublishError
from es_django.outbox.publishers import Publisher


class Notes(Publisher):
    """Appends a line for each message to the file `path`, from however many processes; a share of `failures` fails
    instead. A call ends when the file `gate` is there, if one is named."""

    def __init__(self, path: str, failures: float = 0.0, gate: str | None = None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._failures = failures
        self._gate = gate

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        outcomes = [self.deliver(message) for message in messages]
        while self._gate is not None and not os.path.exists(self._gate):
            time.sleep(0.01)
        return outcomes

    def deliver(self, message: Message) -> PublishError | None:
        if random.random() < self._failures:
            return PublishError("at random")
        os.write(self._file, f"{message.key} {message.data['number']}\n".encode())
        return None


def noting(path: Path, *, outbox: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A setting ES_DJANGO with a destination "tests" whose deliveries are noted."""
    publisher = {"PUBLISHER": "tests.crash.deliveries.Notes", "OPTIONS": {"path": str(path), **options}}
    return {"DESTINATIONS": {"tests": publisher}, "OUTBOX": outbox or {}}


def send(keys: Sequence[str | None], *, first: int = 0) -> None:
    """Sends a message of each of the keys, numbered on from `first`, in one transaction."""
    with transaction.atomic():
        for number, key in enumerate(keys, first):
            outbox.send("tests", type="noted", data={"number": number}, key=key)


def deliveries(path: Path) -> list[tuple[str, int]]:
    """Each delivery so far, as key and number."""
    text = path.read_text() if path.exists() else ""
    # A line that is being written ends without its newline yet.
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [(key, int(number)) for key, number in map(str.split, lines)]


def counts(path: Path) -> list[int]:
    """How often each of the messages that were delivered came, in the order of their numbers."""
    counted = Counter(number for _, number in deliveries(path))
    return [counted[number] for number in sorted(counted)]


def assert_each_key_is_in_order(delivered: Sequence[tuple[str, int]]) -> None:
    """By the first delivery of each message."""
    of_key: defaultdict[str, list[int]] = defaultdict(list)
    for key, number in dict.fromkeys(delivered):
        of_key[key].append(number)
    of_key.pop("None", None)
    assert all(numbers == sorted(numbers) for numbers in of_key.values())
