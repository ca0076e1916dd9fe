"""The Celery tasks. Each task is short and idempotent, and may run several times at once on any number of machines.

Work that must not run twice at once is guarded in the database, never by the schedule.
"""

import logging
from datetime import timedelta
from typing import Any, NoReturn

from celery import Task, shared_task
from celery.exceptions import Reject, Retry

from es_django import conf
from es_django.inbox.processing import receive
from es_django.inbox.receipts import Outcome, prune_receipts
from es_django.outbox.publishers.celery import confirming_connection
from es_django.outbox.publishers.thread_local import BrokerPerThread
from es_django.outbox.relay import relay
from es_django.outbox.retention import prune_messages
from es_django.projections import runner
from es_django.store.errors import StorageError

logger: logging.Logger = logging.getLogger("es_django.outbox")

_retry_connection = BrokerPerThread(confirming_connection)


# The time limits free a worker whose publisher or projection hangs. The next run of the task repeats the work.
@shared_task(name="es_django.relay_outbox", ignore_result=True, soft_time_limit=300)
def relay_outbox(destination: str | None = None) -> None:
    """Publish the outbox messages that are due, of one destination or of all."""
    try:
        relay(destination)
    except StorageError as error:
        if not error.retryable:
            raise
        logger.warning(
            "the relay stopped, the next scheduled run continues: %s", error, extra={"destination": destination}
        )


@shared_task(name="es_django.run_projections", ignore_result=True, soft_time_limit=300)
def run_projections() -> None:
    """Advance every asynchronous projection, and every rebuild, to the end of the log."""
    runner.run_projections()


@shared_task(name="es_django.run_projection", ignore_result=True, soft_time_limit=300)
def run_projection(name: str) -> None:
    """Advance one asynchronous projection to the end of the log."""
    runner.run_projection(name)


@shared_task(name="es_django.prune", ignore_result=True)
def prune() -> None:
    """Delete finished messages and receipts that are older than their `RETENTION_DAYS`. Stop after a time limit."""
    settings = conf.settings()
    prune_messages(timedelta(days=settings.outbox.retention_days))
    prune_receipts(timedelta(days=settings.inbox.retention_days))


# The acknowledgement is late, because the broker must keep the message until the receipt is committed.
@shared_task(
    name="es_django.handle_message",
    bind=True,
    ignore_result=True,
    acks_late=True,
    reject_on_worker_lost=True,
    max_retries=None,
)
def handle_message(self: Task[Any, Any], message: object) -> None:
    """Run the handler of each consumer of the message once. Retry after a pause if an error is retryable.

    If a worker ends while it runs this task, the broker delivers the message again. This redelivery counts as a failed
    attempt and runs no handler, because a message that killed its worker could kill the next workers too.

    A restart of a worker also causes redeliveries: the worker returns the messages that it has not begun. So the first
    redelivery alone never makes a message dead.
    """
    limits = conf.settings().outbox
    attempt = (self.request.retries or 0) + 1
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    limit = max(2, limits.max_attempts) if redelivered else limits.max_attempts
    if receive(message, attempt=attempt, last=attempt >= limit, redelivered=redelivered) is Outcome.POSTPONED:
        _retry(self, limits.backoff.after(attempt))


def _retry(task: Any, countdown: float) -> NoReturn:
    if task.request.called_directly or task.request.is_eager:
        raise task.retry(countdown=countdown)  # the task runs without a broker
    try:
        producer = task.app.amqp.Producer(_retry_connection.get())
        raise task.retry(
            countdown=countdown,
            producer=producer,
            confirm_timeout=conf.settings().outbox.lease / 2,
            argsrepr=task.request.argsrepr,
        )
    except Retry:
        raise
    except Exception as error:
        # The broker did not accept the retry. Without this requeue, the message would be lost.
        _retry_connection.discard()
        raise Reject(error.args[0] if isinstance(error, Reject) else error, requeue=True) from error
