"""The same work with eventsourcing, on its own PostgreSQL recorder or on that of eventsourcing-django.

Arguments: dbname, host, port, user, password, repetitions, "postgres" or "django".
"""

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

name, host, port, user, password, times, recorder = sys.argv[1:]
TIMES = int(times)

if recorder == "django":
    import django
    from django.conf import settings

    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": host,
        "PORT": port,
        "USER": user,
        "PASSWORD": password,
        "CONN_MAX_AGE": None,
    }
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=["eventsourcing_django"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    end: Callable[[], object] = connections.close_all
    call_command("migrate", verbosity=0)
    environment = {"PERSISTENCE_MODULE": "eventsourcing_django"}
else:

    def end() -> None:
        """Connections come from a pool."""

    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": name,
        "POSTGRES_HOST": host,
        "POSTGRES_PORT": port,
        "POSTGRES_USER": user,
        "POSTGRES_PASSWORD": password,
        "POSTGRES_POOL_SIZE": "20",
    }

from eventsourcing.application import Application  # noqa: E402
from eventsourcing.domain import Aggregate, event  # noqa: E402

from benchmarks.peers.answering import answer, rate, rate_in_threads  # noqa: E402


class Subject(Aggregate):
    def __init__(self, amount: int) -> None:
        self.amount = amount

    @event("Measured")
    def measure(self, account: str, amount: int, currency: str, reason: str, by: str, number: int) -> None:
        self.amount += amount


class Subjects(Application):
    pass


def recorded(events: int) -> Any:
    """The first event creates the aggregate."""
    subject = Subject(amount=0)
    for number in range(events - 1):
        subject.measure("account-1", number * 100, "EUR", "a reason of some length", "somebody", number)
    return subject


subjects = Subjects(environment)


def save(events: int) -> UUID:
    subject = recorded(events)
    subjects.save(subject)
    return UUID(str(subject.id))


long = save(1000)
answer(
    {
        "one": lambda: rate(lambda: save(1), TIMES),
        "ten": lambda: rate(lambda: save(10), TIMES // 2, 10),
        "threads": lambda: rate_in_threads(lambda: save(1), TIMES // 2, 4, end=end),
        "network": lambda: rate_in_threads(lambda: save(1), TIMES // 4, 16, end=end),
        "load": lambda: rate(lambda: subjects.repository.get(long), TIMES // 10),
    }
)
