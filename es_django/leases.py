"""A lock by lease, for work that must not hold a transaction open.

It keeps others out for as long as it is renewed, and comes free by itself when its holder dies. It is an optimisation:
a holder that was cut off may go on for a while, so the fence behind it is the version of the stream that it writes.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

from django.db import connections
from django.db.models import QuerySet
from django.db.models.functions import Now

from es_django import conf
from es_django.core.streams import require_name
from es_django.core.validation import require_seconds
from es_django.models import Lease
from es_django.store.error_translation import storage_errors
from es_django.store.errors import LeaseLost, LeaseTaken

_POLL = 0.05


class LeaseLock:
    """The right to `name` for `seconds` at a time, on the clock of the database `using`; made by `lease_lock`."""

    def __init__(self, name: str, seconds: float, using: str) -> None:
        require_name("a lease's name", name, ValueError)
        require_seconds("seconds", seconds)
        if timedelta(seconds=seconds) <= timedelta(0):
            raise ValueError(f"a lease lasts more than 0 seconds, not {seconds!r}")
        self.name = name
        self._seconds = seconds
        self._using = using
        self._token: UUID = uuid4()

    def acquire(self) -> bool:
        """Takes the lease if it is free or has run out, and returns whether it is this holder's now."""
        leases = Lease.objects.using(self._using)
        terms = {
            "owner": f"{socket.gethostname()}:{os.getpid()}",
            "token": self._token,
            "expires_at": Now() + timedelta(seconds=self._seconds),
        }
        with storage_errors("take a lease", connections[self._using]):
            if leases.filter(name=self.name, expires_at__lte=Now()).update(**terms):
                return True
            # The insert does nothing where somebody else's comes first.
            leases.bulk_create([Lease(name=self.name, **terms)], ignore_conflicts=True)
            return leases.filter(name=self.name, token=self._token).exists()

    def renew(self) -> None:
        """Extends the lease from now on. Raises `LeaseLost` if it has run out or is another holder's."""
        with storage_errors("renew a lease", connections[self._using]):
            if (
                not self._mine()
                .filter(expires_at__gt=Now())
                .update(expires_at=Now() + timedelta(seconds=self._seconds))
            ):
                raise LeaseLost(self.name)

    def release(self) -> None:
        """Gives the lease back; does nothing if it is another holder's by now."""
        with storage_errors("release a lease", connections[self._using]):
            self._mine().delete()

    def _mine(self) -> QuerySet[Lease]:
        return Lease.objects.using(self._using).filter(name=self.name, token=self._token)


@contextmanager
def lease_lock(name: str, *, seconds: float = 30.0, timeout: float = 0.0) -> Iterator[LeaseLock]:
    """Holds the lease on `name` for this block; call `renew()` in it at least every `seconds`.

    Raises `LeaseTaken` if somebody else still holds it after `timeout` seconds, and `ValueError` for a `name`
    that does not follow `NAME_RULE` or an unusable number of seconds.
    """
    require_seconds("timeout", timeout)
    lock = LeaseLock(name, seconds, conf.settings().database)
    deadline = time.monotonic() + timeout
    while not lock.acquire():
        if time.monotonic() >= deadline:
            raise LeaseTaken(name)
        time.sleep(_POLL)
    try:
        yield lock
    finally:
        lock.release()
