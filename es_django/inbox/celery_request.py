"""How a Celery worker treats a delivery whose task does not end by itself."""

import time
from typing import Any

from celery.worker.request import Request
from django.db import connections

from es_django import conf
from es_django.core.logs import Log
from es_django.inbox.delivery import keep_revoked

logger: Log = Log("es_django.inbox")

PAUSE = 1.0
"""Seconds before a message that cannot be stored goes back to the broker, which delivers it at once."""


class HandlerRequest(Request):
    """A delivery that leaves the broker only if the database keeps its message.

    Celery acknowledges a task that is revoked or has expired, and drops a task that failed before its function was
    called. Here a revoked message is kept first, and every rejected message goes back to the broker.
    """

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        if not self.acknowledged and not self._already_revoked:  # type: ignore[attr-defined]
            self._keep(reason, terminated=terminated)
        super()._announce_revoked(reason, terminated, signum, expired)  # type: ignore[misc]

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue=True)

    def _keep(self, reason: str, *, terminated: bool) -> None:
        connection = connections[conf.settings().database]
        was_open = connection.connection is not None
        try:
            delivered, retry = self._delivered()
            keep_revoked(delivered, f"Celery ended the task: {reason}", begun=terminated, **retry)
        except Exception:
            logger.exception(
                "a message whose task was %s could not be stored, so it goes back to the broker",
                reason,
                extra={"message_id": self.id},
            )
            time.sleep(PAUSE)
            self.reject(requeue=True)
        finally:
            # The main process of a worker uses no database otherwise.
            if not was_open and not connection.in_atomic_block:
                connection.close()

    def _delivered(self) -> tuple[object, dict[str, Any]]:
        arguments, named = list(self.args or ()), dict(self.kwargs or {})
        delivered = arguments[0] if arguments else named.get("message")
        return delivered, {name: named[name] for name in ("consumer", "after") if name in named}
