"""The Celery tasks. All are short, idempotent and safe to run twice at once on any number of machines: what must be
alone is guarded in the database, never by the schedule."""

import logging
from datetime import timedelta
from typing import Any

from celery import Task, shared_task

from es_django import conf
from es_django.errors import EsDjangoError, is_retryable
from es_django.inbox.handlers import handlers_of
from es_django.inbox.receipts import bury, handle_once
from es_django.outbox.relay import relay
from es_django.outbox.retention import prune_messages
from es_django.projections import runner
from es_django.store.messages import from_wire

logger = logging.getLogger("es_django.tasks")


# The limit frees the worker of a publisher that hangs; what it had is tried again.
@shared_task(name="es_django.relay_outbox", ignore_result=True, soft_time_limit=300)
def relay_outbox(destination: str | None = None) -> None:
    """Publishes the outbox messages that are due, of one destination or of all."""
    relay(destination)


@shared_task(name="es_django.run_projections", ignore_result=True)
def run_projections() -> None:
    """Brings every asynchronous projection up to the end of the log."""
    runner.run_projections()


@shared_task(name="es_django.run_projection", ignore_result=True)
def run_projection(name: str) -> None:
    """Brings one asynchronous projection up to the end of the log."""
    runner.run_projection(name)


@shared_task(name="es_django.prune", ignore_result=True)
def prune() -> None:
    """Deletes what has ended longer ago than the settings keep it, as far as it comes in its time."""
    prune_messages(timedelta(days=conf.settings().outbox.retention_days))


# The broker must keep the message until the receipt is committed: hence the late acknowledgement.
@shared_task(
    name="es_django.handle_message",
    bind=True,
    ignore_result=True,
    acks_late=True,
    reject_on_worker_lost=True,
    max_retries=None,
)
def handle_message(self: Task[Any, Any], message: dict[str, Any]) -> None:
    """Runs the handlers of a message, each once, and again after a pause where that can help."""
    received = from_wire(message)
    handlers = handlers_of(received.type)
    if not handlers:
        logger.warning("no handler for message %s of type %s", received.message_id, received.type)
    limits = conf.settings().outbox
    attempt = (self.request.retries or 0) + 1
    postponed: Exception | None = None
    for consumer, handler in handlers.items():
        try:
            handle_once(consumer, received, handler, attempt=attempt)
        except Exception as error:
            logger.warning("consumer %s failed on message %s: %r", consumer, received.message_id, error)
            if is_retryable(error) and attempt < limits.max_attempts:
                postponed = error
                continue
            try:
                bury(consumer, received, error, attempt=attempt)
            except EsDjangoError as failure:
                # Given up now, the message would be nowhere.
                postponed = failure
    if postponed is not None:
        raise self.retry(exc=postponed, countdown=limits.backoff.after(attempt))
