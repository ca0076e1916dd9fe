"""The same work with es_django. Arguments: dbname, host, port, user, password, repetitions, broker."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
name, host, port, user, password, times, broker = sys.argv[1:]
os.environ["CELERY_BROKER_URL"] = broker
django.setup()

from itertools import count  # noqa: E402
from typing import Any  # noqa: E402

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from benchmarks.peers.answering import answer, rate, rate_in_threads  # noqa: E402
from benchmarks.subject import Subject, measured  # noqa: E402
from es_django import Repository, outbox  # noqa: E402
from es_django.core.instrumentation import listeners  # noqa: E402
from es_django.core.metadata import sources  # noqa: E402
from es_django.outbox.relay import relay  # noqa: E402
from testproject.celery import app  # noqa: E402

TIMES = int(times)
subjects = Repository(Subject)
numbers = count()


def save(events: int, key: str = "") -> None:
    subject = Subject(key or f"{os.getpid()}-{next(numbers)}")
    for number in range(events):
        subject.record(measured(number))
    subjects.save(subject)


def send() -> None:
    with transaction.atomic():
        outbox.send("rabbitmq", type="benchmark", data={"amount": 1})


def relay_all() -> float:
    waiting = TIMES
    relay("rabbitmq", seconds=3600)
    for _ in range(waiting):
        send()
    return rate_once(lambda: relay("rabbitmq", seconds=3600))


def rate_once(work: Any) -> float:
    import time

    started = time.perf_counter()
    done = work()
    return float(done / (time.perf_counter() - started))


listeners.clear()
sources.clear()
connections.close_all()
connection.settings_dict.update(NAME=name, HOST=host, PORT=port, USER=user, PASSWORD=password)
# Send wake-ups to this queue as well, so that none is left in the queue of another program.
app.conf.task_default_queue = "es_django.benchmark.peers"
rabbitmq = {"PUBLISHER": "es_django.outbox.publishers.celery.CeleryPublisher"}
with override_settings(DEBUG=False, ES_DJANGO={**settings.ES_DJANGO, "DESTINATIONS": {"rabbitmq": rabbitmq}}):
    call_command("migrate", verbosity=0)
    if not subjects.exists("long"):
        save(1000, "long")
    answer(
        {
            "one": lambda: rate(lambda: save(1), TIMES),
            "ten": lambda: rate(lambda: save(10), TIMES // 2, 10),
            "threads": lambda: rate_in_threads(lambda: save(1), TIMES // 2, 4, end=connections.close_all),
            "network": lambda: rate_in_threads(lambda: save(1), TIMES // 4, 16, end=connections.close_all),
            "load": lambda: rate(lambda: subjects.get("long"), TIMES // 10),
            "send": lambda: rate(send, TIMES),
            "relay": relay_all,
        }
    )
