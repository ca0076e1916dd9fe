"""The relay: claims messages, publishes them, and settles the claims.

Publishing happens outside any transaction. A crash at any point leaves claims that run out, and their messages are
published again: at least once. Of one destination and key, no message is sent while an earlier one is unsettled. Claims
are renewed while their messages are being published, so that slowness alone loses none.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from uuid import uuid4

from django.db import connections

from es_django import conf
from es_django.errors import EsDjangoError, PublishError
from es_django.outbox.publishers import Publisher, publisher_for
from es_django.outbox.store import Claim, Settlement, outbox_store

logger = logging.getLogger("es_django.outbox")

RENEWAL = "es_django claim renewal"


def relay(destination: str | None = None, *, seconds: float = 20.0) -> int:
    """Publishes what is due, of one destination or of all, and returns how many messages were published.

    It ends when nothing is left to claim, or after about `seconds`. Any number of relays may run at once. Of several
    destinations, one that fails as a whole is logged and does not stop the others; one that is asked for by name
    raises.
    """
    deadline = time.monotonic() + seconds
    waiting = [destination] if destination is not None else list(conf.settings().destinations)
    published = 0
    # A batch of each in turn, so that a slow destination does not starve the others.
    while waiting and time.monotonic() < deadline:
        for name in list(waiting):
            try:
                claimed, done = _relay_batch(name)
            except Exception:
                if destination is not None:
                    raise
                logger.exception("the messages to %s could not be relayed", name)
                claimed, done = 0, 0
            published += done
            if claimed == 0:
                waiting.remove(name)
    return published


def _relay_batch(destination: str) -> tuple[int, int]:
    publisher = publisher_for(destination)
    limits = conf.settings().outbox
    store = outbox_store()
    worker = f"{socket.gethostname()[:200]}:{os.getpid()}:{uuid4().hex[:8]}"
    claims = store.claim(destination, worker, limit=limits.batch_size, lease=limits.lease)
    if not claims:
        return 0, 0
    with _renewed(destination, worker, limits.lease) as is_lost:
        settlements = list(_publish(publisher, claims, is_lost))
    lost = store.settle(worker, settlements)
    for claim in lost:
        logger.warning("the claim on message %s was lost before it was settled", claim.message.message_id)
    gone = {claim.id for claim in lost}
    published = [each for each in settlements if each.tried and each.error is None and each.claim.id not in gone]
    return len(claims), len(published)


@contextmanager
def _renewed(destination: str, worker: str, lease: float) -> Iterator[Callable[[], bool]]:
    """Renews the worker's claims for as long as the block lasts, and yields what tells whether they are lost."""
    ended, lost = Event(), Event()

    def renew() -> None:
        try:
            while not ended.wait(lease / 3):
                if outbox_store().extend(destination, worker, lease=lease) == 0:
                    lost.set()
                    return
        except EsDjangoError as error:
            logger.warning("the claims of %s could not be renewed: %s", worker, error)
            lost.set()
        finally:
            connections.close_all()

    thread = Thread(target=renew, name=RENEWAL, daemon=True)
    thread.start()
    try:
        yield lost.is_set
    finally:
        ended.set()
        thread.join()


def _publish(publisher: Publisher, claims: Sequence[Claim], is_lost: Callable[[], bool]) -> Iterator[Settlement]:
    """Publishes in waves with at most one message of a key in each, so that a failed one holds back its own key."""
    failed: set[str] = set()
    for wave in _waves(claims):
        if is_lost():
            return
        ready = [claim for claim in wave if claim.message.key not in failed]
        yield from (Settlement(claim, tried=False) for claim in wave if claim.message.key in failed)
        for claim, error in zip(ready, _outcomes(publisher, ready), strict=True):
            if error is not None:
                if claim.message.key is not None:
                    failed.add(claim.message.key)
                logger.warning(
                    "message %s was not published, attempt %s: %s", claim.message.message_id, claim.attempts, error
                )
            yield Settlement(claim, error)


def _waves(claims: Sequence[Claim]) -> list[list[Claim]]:
    waves: list[list[Claim]] = [[]]
    seen: dict[str, int] = {}
    for claim in claims:
        key = claim.message.key
        wave = 0 if key is None else seen.get(key, 0)
        if key is not None:
            seen[key] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(claim)
    return waves


def _outcomes(publisher: Publisher, claims: Sequence[Claim]) -> Sequence[PublishError | None]:
    if not claims:
        return []
    try:
        outcomes = publisher.publish([claim.message for claim in claims])
    except Exception as error:
        return [error if isinstance(error, PublishError) else PublishError(repr(error))] * len(claims)
    if len(outcomes) != len(claims):
        reason = f"{type(publisher).__name__} returned {len(outcomes)} outcomes for {len(claims)} messages"
        return [PublishError(reason)] * len(claims)
    return outcomes
