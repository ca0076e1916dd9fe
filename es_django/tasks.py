"""The Celery tasks. Each task is short and idempotent, and may run several times at once on any number of machines.

Work that must not run twice at once is guarded in the database, never by the schedule.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from celery import Task, shared_task
from celery.exceptions import Reject
from django.db import close_old_connections

from es_django import conf
from es_django.core.logs import Log
from es_django.inbox import retries
from es_django.inbox.delivery import receive
from es_django.inbox.receipts import prune_receipts
from es_django.inbox.retries import Retry
from es_django.outbox.idleness import has_open_messages
from es_django.outbox.publishers.celery import confirming_connection
from es_django.outbox.publishers.thread_local import BrokerPerThread
from es_django.outbox.relay import relay
from es_django.outbox.retention import prune_messages
from es_django.projections import runner
from es_django.projections.idleness import has_work
from es_django.store.errors import StorageError

logger: Log = Log("es_django.outbox")

TRIES, PAUSE = 20, 1.0
"""How often a worker tries to store a message, and the seconds between, before the broker has to deliver it again.

A quorum queue of RabbitMQ drops a message that was returned 20 times, so a message is not returned at once.
"""

# The tasks that beat sends. Each option is set here, because the project's setting for all tasks could stop them:
# - The time limits free a worker whose publisher or projection hangs, and the next run repeats the work. Celery refuses
#   to send a task whose soft limit is above its hard limit, so both are set.
# - A task that finds no worker expires, so that a night without workers does not leave thousands. The expiry stands
#   here, because the database scheduler of django-celery-beat drops the expiry of a schedule's entry.
SWEEP: Final[dict[str, Any]] = {
    "ignore_result": True,
    "soft_time_limit": 300,
    "time_limit": 330,
    "expires": 60,
    "rate_limit": 0,
    "serializer": "json",
    "track_started": False,
}

# The broker keeps a delivery until its message is in the database, whatever the project's settings for all tasks are.
# From then on, the receipt keeps the message.
DELIVERY: Final[dict[str, Any]] = {
    "ignore_result": True,
    "track_started": False,
    "serializer": "json",
    "acks_late": True,
    "acks_on_failure": False,
    "acks_on_timeout": False,
    "reject_on_worker_lost": True,
    "retry_on_worker_lost": False,
    "Request": "es_django.inbox.celery_request:HandlerRequest",
}

SWEEPS: Final = (
    *("es_django.relay_outbox", "es_django.run_projections", "es_django.run_projection"),
    *("es_django.prune", "es_django.retry_handlers"),
)

_retry_connection = BrokerPerThread(confirming_connection)


@shared_task(name="es_django.relay_outbox", **SWEEP)
def relay_outbox(destination: str | None = None) -> None:
    """Publish the outbox messages that are due, of one destination or of all."""
    try:
        # Most runs of an idle project find nothing, so they make no more than one query.
        if has_open_messages():
            relay(destination)
    except StorageError as error:
        if not error.retryable:
            raise
        logger.warning(
            "the relay stopped, the next scheduled run continues: %s", error, extra={"destination": destination}
        )


@shared_task(name="es_django.run_projections", **SWEEP)
def run_projections() -> None:
    """Advance every asynchronous projection, and every rebuild, to the end of the log."""
    if has_work():
        runner.run_projections()


@shared_task(name="es_django.run_projection", **SWEEP)
def run_projection(name: str) -> None:
    """Advance one asynchronous projection to the end of the log."""
    runner.run_projection(name)


@shared_task(name="es_django.prune", **{**SWEEP, "expires": 600})
def prune() -> None:
    """Delete finished messages and receipts that are older than their `RETENTION_DAYS`. Stop after a time limit."""
    settings = conf.settings()
    prune_messages(timedelta(days=settings.outbox.retention_days))
    prune_receipts(timedelta(days=settings.inbox.retention_days))


@shared_task(name="es_django.retry_handlers", **SWEEP)
def retry_handlers() -> None:
    """Send the messages whose handlers are due again to their queues, and find handlers whose worker was lost."""
    retries.hand_over(_send_retries)


@shared_task(name="es_django.handle_message", bind=True, **DELIVERY)
def handle_message(
    self: Task[Any, Any], message: object, consumer: str | None = None, after: int | None = None
) -> None:
    """Run the handler of each consumer of the message once, or for a retry, the handler of one consumer.

    If a handler fails, the message waits in its receipt until `retry_handlers` sends it again. If the worker ends, the
    receipt shows that the handler had begun, and `retry_handlers` brings the message back. An attempt counts only if
    its handler had begun.
    """
    request: Any = self.request
    is_delivered = not (request.called_directly or request.is_eager)
    if not is_delivered:
        receive(message, consumer=consumer, after=after)
        return
    route, failures = _route(request), 0
    while True:
        try:
            receive(message, consumer=consumer, after=after, route=route)
            return
        except Exception as error:
            failures += 1
            is_last = failures >= TRIES or not isinstance(error, StorageError)
            ids, log = {"message_id": request.id, "attempt": failures}, Log("es_django.inbox")
            if is_last:
                log.exception("a message could not be stored, so it goes back to the broker", extra=ids)
                raise Reject(error, requeue=True) from error
            log.warning("a message could not be stored, trying again in %g s: %s", PAUSE, error, extra=ids)
        time.sleep(PAUSE)
        close_old_connections()


def _route(request: Any) -> dict[str, Any]:
    delivery = request.delivery_info or {}
    return {name: delivery[name] for name in ("exchange", "routing_key", "priority") if delivery.get(name) is not None}


def _send_retries(due: Sequence[Retry]) -> list[Exception | None]:
    """Send each message to the queue from which it came, and wait for the broker's confirm."""
    outcomes: list[Exception | None] = []
    for retry in due:
        try:
            _send_retry(retry)
            outcomes.append(None)
        except Exception as error:
            _retry_connection.discard()
            outcomes.append(error)
    return outcomes


def _send_retry(retry: Retry) -> None:
    options: dict[str, Any] = dict(retry.route or {})
    if not options.get("exchange") and "routing_key" in options:
        options.pop("exchange", None)
        options["queue"] = options.pop("routing_key")  # the default exchange routes by the name of the queue
    task: Any = handle_message
    if not task.app.conf.task_always_eager:
        options["producer"] = task.app.amqp.Producer(_retry_connection.get())
    task.apply_async(
        args=[retry.content],
        kwargs={"consumer": retry.consumer, "after": retry.after},
        argsrepr=f"({retry.content.get('type')} {retry.message_id})",
        mandatory=True,
        retry=False,
        confirm_timeout=conf.settings().outbox.lease / 2,
        **options,
    )
