"""Lease locks, for work that must not hold a transaction open.

A lease excludes other owners as long as its owner renews it. It expires by itself if the owner dies.

A lease is an optimisation, not a guarantee: an owner that lost its connection may continue after its lease expired.
Only the expected version of the append protects the stream.
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

_POLL_SECONDS = 0.05


class LeaseLock:
    """A lease on `name` that lasts `seconds` by the clock of the database `using`. Created by `lease_lock`."""

    def __init__(self, name: str, seconds: float, using: str) -> None:
        require_name("a lease's name", name, ValueError)
        require_seconds("seconds", seconds)
        if timedelta(seconds=seconds) <= timedelta(0):
            raise ValueError(f"a lease must last more than 0 seconds, got {seconds!r}")
        self.name = name
        self._seconds = seconds
        self._using = using
        self._token: UUID = uuid4()

    def acquire(self) -> bool:
        """Take the lease if it is free or expired. Return whether this owner holds it now."""
        leases = Lease.objects.using(self._using)
        lease = {
            "owner": f"{socket.gethostname()}:{os.getpid()}",
            "token": self._token,
            "expires_at": Now() + timedelta(seconds=self._seconds),
        }
        with storage_errors("take a lease", connections[self._using]):
            if leases.filter(name=self.name, expires_at__lte=Now()).update(**lease):
                return True
            # The insert does nothing if another owner inserts first.
            leases.bulk_create([Lease(name=self.name, **lease)], ignore_conflicts=True)
            return leases.filter(name=self.name, token=self._token).exists()

    def renew(self) -> None:
        """Extend the lease to `seconds` from now. Raise `LeaseLost` if the lease expired or has another owner."""
        unexpired = self._own_lease().filter(expires_at__gt=Now())
        with storage_errors("renew a lease", connections[self._using]):
            if not unexpired.update(expires_at=Now() + timedelta(seconds=self._seconds)):
                raise LeaseLost(self.name)

    def release(self) -> None:
        """Release the lease. Do nothing if another owner holds the lease."""
        with storage_errors("release a lease", connections[self._using]):
            self._own_lease().delete()

    def _own_lease(self) -> QuerySet[Lease]:
        return Lease.objects.using(self._using).filter(name=self.name, token=self._token)


@contextmanager
def lease_lock(name: str, *, seconds: float = 30.0, timeout: float = 0.0) -> Iterator[LeaseLock]:
    """Hold the lease on `name` inside the block. The block must call `renew()` at least every `seconds` seconds.

    Raise `LeaseTaken` if another owner still holds the lease after `timeout` seconds. Raise `ValueError` for an invalid
    name or number of seconds.
    """
    require_seconds("timeout", timeout)
    lock = LeaseLock(name, seconds, conf.settings().database)
    deadline = time.monotonic() + timeout
    while not lock.acquire():
        if time.monotonic() >= deadline:
            raise LeaseTaken(name)
        time.sleep(_POLL_SECONDS)
    try:
        yield lock
    finally:
        lock.release()
