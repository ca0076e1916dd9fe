"""Renew a worker's claims in the background while their messages are being published.

Without renewal, the lease of a slow batch would expire, and other workers would publish its messages as well.
"""

import time
from collections.abc import Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Self

from django.db import connections

from es_django.core.errors import EsDjangoError
from es_django.core.logs import Log
from es_django.outbox.port import Claim, OutboxStore

logger: Log = Log("es_django.outbox")

THREAD_NAME = "es_django claim heartbeat"
PATIENCE = 10.0
"""How many leases one call of a publisher may last. After that the call counts as hanging, and its claims run out."""


class Heartbeat:
    """Renews the claims of a worker inside a `with` block.

    Call `record_progress` after each call of the publisher. After `PATIENCE` leases without it, renewal ends.
    """

    def __init__(
        self, store: OutboxStore, worker: str, claims: Sequence[Claim], *, claimed_at: float, lease: float
    ) -> None:
        self._store = store
        self._worker = worker
        self._claims = claims
        self._lease = lease
        self._held = {claim.id for claim in claims}
        self._renewed_at = self._progress_at = claimed_at
        self._ids = {"worker": worker, "destination": claims[0].message.destination}
        self._ended = Event()
        self._thread = Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def holds(self, claim: Claim) -> bool:
        """Return whether the worker still holds the claim, without asking the store.

        A claim whose last renewal is older than the lease counts as lost. This happens if the renewal hangs, or if the
        process was suspended.
        """
        return claim.id in self._held and time.monotonic() < self._renewed_at + self._lease

    def record_progress(self) -> None:
        """Note that a call of the publisher has returned."""
        self._progress_at = time.monotonic()

    def _run(self) -> None:
        try:
            while self._held and not self._ended.wait(self._lease / 3):
                self._renew()
        finally:
            connections.close_all()

    def _renew(self) -> None:
        now = time.monotonic()
        if now - self._progress_at > PATIENCE * self._lease:
            hanging = now - self._progress_at
            logger.error(
                "the publisher of destination %s has not returned for %.1f s: the claims of worker %s run out, and "
                "other workers publish its messages again",
                self._ids["destination"],
                hanging,
                self._worker,
                extra=self._ids,
            )
            self._held = set()
            return
        try:
            self._held = self._store.extend(self._worker, self._claims, lease=self._lease)
            self._renewed_at = now
        except EsDjangoError as error:
            logger.warning(
                "worker %s could not renew its claims, and tries again until they expire: %s",
                self._worker,
                error,
                extra=self._ids,
            )
            if now - self._renewed_at > self._lease:
                self._held = set()
