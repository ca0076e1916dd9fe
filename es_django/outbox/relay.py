"""The relay: claims messages, publishes them, and settles the claims.

Publishing happens outside any transaction. A crash at any point leaves claims that run out, and their messages are
published again: at least once. Of one destination and key, no message is sent while an earlier one is unsettled.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

from django.core.exceptions import ImproperlyConfigured

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.core.instrumentation import Kind, Work
from es_django.core.serialization import storable_text
from es_django.outbox.backends import outbox_store
from es_django.outbox.circuit_breaker import is_resting, note_reached, note_unreachable
from es_django.outbox.errors import ClaimLost, DestinationUnreachable, PublishError
from es_django.outbox.heartbeat import Renewal
from es_django.outbox.port import Claim, OutboxStore, Settlement
from es_django.outbox.publishers import Publisher, publisher_for
from es_django.outbox.second_worker import Companion
from es_django.store.errors import StorageError

logger: logging.Logger = logging.getLogger("es_django.outbox")

CALL = 100
"""Messages that a publisher is given at once."""
PAUSE = 0.5
"""Seconds before a settling that the database did not take is tried again."""


def relay(
    destination: str | None = None, *, seconds: float = 20.0, is_stopped: Callable[[], bool] = lambda: False
) -> int:
    """Publishes what is due, of one destination or of all, and returns how many messages were published.

    It ends when nothing is left to claim, after about `seconds`, or when `is_stopped` says so; what it has claimed and
    not yet handed to the publisher goes back then. Any number of relays may run at once. A destination that cannot be
    reached rests for some seconds, in which nothing is claimed for it. While whole batches are due, a second thread
    relays as well, with connections of its own, and asks `is_stopped` too. Of several destinations, one whose publisher
    cannot be made is logged and does not stop the others; one that is asked for by name raises. Raises `StorageError`
    if the database fails, and RuntimeError inside an open transaction.
    """
    deadline = time.monotonic() + seconds

    def is_over() -> bool:
        return is_stopped() or time.monotonic() >= deadline

    def accompany(is_alone: Callable[[], bool]) -> int:
        return _relay_in_turn(destination, lambda: is_alone() or is_over())

    with Companion(accompany) as companion:
        published = _relay_in_turn(destination, is_over, companion.call)
    return published + companion.published


def _relay_in_turn(
    destination: str | None, is_over: Callable[[], bool], call_for_help: Callable[[], None] = lambda: None
) -> int:
    waiting = [destination] if destination is not None else list(conf.settings().destinations)
    published = 0
    # A batch of each in turn, so that a slow destination does not starve the others.
    while waiting and not is_over():
        for name in list(waiting):
            claimed, done = 0, 0
            try:
                if not is_resting(name):
                    claimed, done = _relay_batch(name, is_over)
            except StorageError:
                raise
            except (EsDjangoError, ImproperlyConfigured):
                if destination is not None:
                    raise
                logger.exception("the messages to %s could not be relayed", name, extra={"destination": name})
            published += done
            if claimed == 0 or is_resting(name):
                waiting.remove(name)
            elif _is_worth_help(claimed):
                call_for_help()
    return published


def _is_worth_help(claimed: int) -> bool:
    return outbox_store().is_concurrent and CALL < claimed == conf.settings().outbox.batch_size


def _relay_batch(destination: str, is_over: Callable[[], bool]) -> tuple[int, int]:
    publisher = publisher_for(destination)
    limits = conf.settings().outbox
    store = outbox_store()
    # One of its own for each batch, so that nobody else ever settles by this name.
    worker = f"{socket.gethostname()[:200]}:{os.getpid()}:{uuid4().hex[:8]}"
    claimed_at = time.monotonic()
    claims = store.claim(destination, worker, limit=limits.batch_size, lease=limits.lease)
    if not claims:
        return 0, 0
    with Renewal(store, worker, claims, claimed_at=claimed_at, lease=limits.lease) as renewal:
        settlements = list(_publish(destination, publisher, claims, renewal, is_over))
        outcomes = _settle(store, worker, settlements, renewal)
    for settlement, lost in zip(settlements, outcomes, strict=True):
        if lost is not None:
            logger.warning("%s: it is published once more", lost, extra=_ids(settlement.claim))
    published = [
        settlement
        for settlement, lost in zip(settlements, outcomes, strict=True)
        if settlement.tried and settlement.error is None and lost is None
    ]
    return len(claims), len(published)


def _settle(
    store: OutboxStore, worker: str, settlements: Sequence[Settlement], renewal: Renewal
) -> list[ClaimLost | None]:
    """Settles as soon as the database is there again, for as long as the claims may live."""
    while True:
        try:
            return store.settle(worker, settlements)
        except StorageError as error:
            if not error.retryable or not any(renewal.holds(settlement.claim) for settlement in settlements):
                raise
            ids = {"worker": worker, "destination": settlements[0].claim.message.destination}
            logger.warning("the claims of %s are not settled yet: %s", worker, error, extra=ids)
            time.sleep(PAUSE)


def _publish(
    destination: str, publisher: Publisher, claims: Sequence[Claim], renewal: Renewal, is_over: Callable[[], bool]
) -> Iterator[Settlement]:
    """Publishes in waves with at most one message of a key in each, so that a failed one holds back its own key."""
    held_back: set[str] = set()

    def hold_back(claim: Claim) -> None:
        if claim.message.key is not None:
            held_back.add(claim.message.key)

    over = False
    for wave in _waves(claims):
        over = over or is_over()
        ready: list[Claim] = []
        for claim in wave:
            if not renewal.holds(claim):
                hold_back(claim)
            elif over or claim.message.key in held_back:
                yield Settlement(claim, tried=False)
            elif claim.attempts > conf.settings().outbox.max_attempts:
                reason = claim.last_error or "its attempts are used up, and none of them came to an end"
                yield Settlement(claim, PublishError(reason, retryable=False), tried=False)
                hold_back(claim)
            else:
                ready.append(claim)
        outcomes = _outcomes(publisher, ready)
        outage = _outage(outcomes)
        for claim, error in zip(ready, outcomes, strict=True):
            if error is not None:
                hold_back(claim)
                if outage is None:
                    known = claim.message.message_id, claim.attempts
                    logger.warning("message %s was not published, attempt %s: %s", *known, error, extra=_ids(claim))
            yield Settlement(claim, error, tried=outage is None)
        if outage is not None:
            note_unreachable(destination, outage)
            over = True
        elif outcomes:
            note_reached(destination)
        renewal.progress()


def _outage(outcomes: Sequence[PublishError | None]) -> DestinationUnreachable | None:
    # Where anything arrived, or failed in another way, the destination was reached.
    unreachable = [error for error in outcomes if isinstance(error, DestinationUnreachable)]
    return unreachable[0] if unreachable and len(unreachable) == len(outcomes) else None


def _ids(claim: Claim) -> dict[str, object]:
    message = claim.message
    known = {"message_id": message.message_id, "destination": message.destination, "attempt": claim.attempts}
    if message.stream is None:
        return known
    stream = {"category": message.stream.category, "key": message.stream.key}
    return {**known, **stream, "version": message.stream_version}


def _waves(claims: Sequence[Claim]) -> Iterator[list[Claim]]:
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
    for each in waves:
        # Between two calls the relay can see that its time is over, or that its claims are lost.
        for start in range(0, len(each), CALL):
            yield each[start : start + CALL]


def _outcomes(publisher: Publisher, claims: Sequence[Claim]) -> Sequence[PublishError | None]:
    if not claims:
        return []
    causes = (claim.message.headers for claim in claims)
    with Work(Kind.PUBLISH, claims[0].message.destination, len(claims), causes) as work:
        outcomes = _call(publisher, claims)
        failures = [error for error in outcomes if error is not None]
        work.outcomes = {"done": len(claims) - len(failures), "failed": len(failures)}
        work.error = failures[0] if failures else None
    return outcomes


def _call(publisher: Publisher, claims: Sequence[Claim]) -> Sequence[PublishError | None]:
    name = type(publisher).__name__
    try:
        outcomes = list(publisher.publish([claim.message for claim in claims]))
    except DestinationUnreachable as error:
        return [error] * len(claims)
    except Exception as error:
        ids = {"destination": claims[0].message.destination}
        logger.exception("%s broke down", name, extra=ids)
        return [error if isinstance(error, PublishError) else PublishError(storable_text(error))] * len(claims)
    if len(outcomes) != len(claims):
        reason = f"{name} returned {len(outcomes)} outcomes for {len(claims)} messages"
        return [PublishError(reason)] * len(claims)
    return [
        outcome
        if outcome is None or isinstance(outcome, PublishError)
        else PublishError(f"{name} returned {type(outcome).__name__} as an outcome")
        for outcome in outcomes
    ]
