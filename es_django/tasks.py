"""The Celery tasks. All are short, idempotent and safe to run twice at once on any number of machines: what must be
alone is guarded in the database, never by the schedule."""

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

_connection = BrokerPerThread(confirming_connection)


# The limits free the worker of a publisher or a projection that hangs; what it had is tried again.
@shared_task(name="es_django.relay_outbox", ignore_result=True, soft_time_limit=300)
def relay_outbox(destination: str | None = None) -> None:
    """Publishes the outbox messages that are due, of one destination or of all."""
    try:
        relay(destination)
    except StorageError as error:
        if not error.retryable:
            raise
        logger.warning("%s; the next sweep goes on", error, extra={"destination": destination})


@shared_task(name="es_django.run_projections", ignore_result=True, soft_time_limit=300)
def run_projections() -> None:
    """Brings every asynchronous projection, and those that are being rebuilt, up to the end of the log."""
    runner.run_projections()


@shared_task(name="es_django.run_projection", ignore_result=True, soft_time_limit=300)
def run_projection(name: str) -> None:
    """Brings one asynchronous projection up to the end of the log."""
    runner.run_projection(name)


@shared_task(name="es_django.prune", ignore_result=True)
def prune() -> None:
    """Deletes what has ended longer ago than the settings keep it, as far as it comes in its time."""
    settings = conf.settings()
    prune_messages(timedelta(days=settings.outbox.retention_days))
    prune_receipts(timedelta(days=settings.inbox.retention_days))


# The broker must keep the message until the receipt is committed: hence the late acknowledgement.
@shared_task(
    name="es_django.handle_message",
    bind=True,
    ignore_result=True,
    acks_late=True,
    reject_on_worker_lost=True,
    max_retries=None,
)
def handle_message(self: Task[Any, Any], message: object) -> None:
    """Runs the handlers of a message, each once, and again after a pause where that can help.

    A message that the broker delivers again, since its worker ended before it was done, comes back later as one that
    has failed: else one that kills its worker would kill the next at once, and so on for ever. A worker that is only
    restarted also gives back what it has not begun, hence nothing is given up for that before its second delivery.
    """
    limits = conf.settings().outbox
    attempt = (self.request.retries or 0) + 1
    came_back = bool((self.request.delivery_info or {}).get("redelivered"))
    limit = max(2, limits.max_attempts) if came_back else limits.max_attempts
    if receive(message, attempt=attempt, last=attempt >= limit, came_back=came_back) is Outcome.POSTPONED:
        _retry(self, limits.backoff.after(attempt))


def _retry(task: Any, countdown: float) -> NoReturn:
    if task.request.called_directly or task.request.is_eager:
        raise task.retry(countdown=countdown)  # no broker has it
    try:
        producer = task.app.amqp.Producer(_connection.get())
        raise task.retry(
            countdown=countdown,
            producer=producer,
            confirm_timeout=conf.settings().outbox.lease / 2,
            argsrepr=task.request.argsrepr,
        )
    except Retry:
        raise
    except Exception as error:
        # The retry was not taken: dropped now, the message would be nowhere.
        _connection.discard()
        raise Reject(error.args[0] if isinstance(error, Reject) else error, requeue=True) from error
