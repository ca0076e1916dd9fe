"""A publisher that writes each delivery to a file, and functions that read it. The file survives a killed process."""

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
    """Append a line for each message to the file `path`. Several processes may share the file.

    `failures` is the share of messages that fail. If `gate` is given, a call returns only when that file exists.
    """

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
    """Return a setting ES_DJANGO whose destination "tests" writes its deliveries to the file `path`."""
    publisher = {"PUBLISHER": "tests.crash.deliveries.Notes", "OPTIONS": {"path": str(path), **options}}
    return {"DESTINATIONS": {"tests": publisher}, "OUTBOX": outbox or {}}


def send(keys: Sequence[str | None], *, first: int = 0) -> None:
    """Send one message for each key in one transaction, numbered from `first`."""
    with transaction.atomic():
        for number, key in enumerate(keys, first):
            outbox.send("tests", type="noted", data={"number": number}, key=key)


def deliveries(path: Path) -> list[tuple[str, int]]:
    """Return the key and the number of each delivery so far."""
    text = path.read_text() if path.exists() else ""
    # A line that is still being written has no newline yet.
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [(key, int(number)) for key, number in map(str.split, lines)]


def counts(path: Path) -> list[int]:
    """Return how often each delivered message arrived, in the order of the message numbers."""
    counted = Counter(number for _, number in deliveries(path))
    return [counted[number] for number in sorted(counted)]


def assert_each_key_is_in_order(delivered: Sequence[tuple[str, int]]) -> None:
    """Assert that the messages of each key arrived in order. Repeated deliveries are ignored."""
    of_key: defaultdict[str, list[int]] = defaultdict(list)
    for key, number in dict.fromkeys(delivered):
        of_key[key].append(number)
    of_key.pop("None", None)
    assert all(numbers == sorted(numbers) for numbers in of_key.values())
