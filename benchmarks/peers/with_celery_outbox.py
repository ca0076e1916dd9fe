"""The same work with django-celery-outbox. Arguments: dbname, host, port, user, password, repetitions, broker."""

import os
import signal
import sys
import time
from threading import Timer

import django
from django.conf import settings

name, host, port, user, password, times, broker = sys.argv[1:]
TIMES = int(times)
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
    INSTALLED_APPS=["django_celery_outbox"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    CELERY_OUTBOX_APP="benchmarks.peers.with_celery_outbox.app",
    CELERY_BROKER_URL=broker,
    CELERY_BROKER_TRANSPORT_OPTIONS={"confirm_publish": True},
    CELERY_TASK_DEFAULT_QUEUE="es_django.benchmark.peers",
)
django.setup()

import structlog  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django_celery_outbox import OutboxCelery  # noqa: E402
from django_celery_outbox.models import CeleryOutbox  # noqa: E402
from django_celery_outbox.relay import Relay  # noqa: E402
from django_celery_outbox.relay._config import RelayConfig  # noqa: E402

from benchmarks.peers.answering import answer, rate  # noqa: E402

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
app = OutboxCelery("benchmark")
app.config_from_object("django.conf:settings", namespace="CELERY")
call_command("migrate", verbosity=0)


def send() -> None:
    with transaction.atomic():
        app.send_task("benchmark", kwargs={"amount": 1})


def relay_all() -> float:
    """Return the rate of a relay. It gets SIGTERM at its start, and then stops as soon as no message is left."""
    CeleryOutbox.objects.all().delete()
    for _ in range(TIMES):
        send()
    started = time.perf_counter()
    Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
    Relay(app=app, config=RelayConfig.init(batch_size=500, idle_time=0.01)).start()
    taken = time.perf_counter() - started
    assert not CeleryOutbox.objects.exists()
    return TIMES / taken


answer({"send": lambda: rate(send, TIMES), "relay": relay_all})
