"""The relay: it claims messages, publishes them, and settles the claims.

Publishing happens outside any transaction. If the process dies at any point, its claims expire, and another relay
publishes their messages again: delivery is at least once. A message is sent only after all earlier messages of its
destination and key have been published or given up.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

from django.core.exceptions import ImproperlyConfigured

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.core.instrumentation import Kind, Work
from es_django.core.logs import Log
from es_django.core.serialization import storable_text
from es_django.outbox import batch_share, circuit_breaker
from es_django.outbox.backends import outbox_store
from es_django.outbox.errors import ClaimLost, DestinationUnreachable, PublishError
from es_django.outbox.heartbeat import Heartbeat
from es_django.outbox.port import BATCH_BYTES, Claim, OutboxStore, Settlement
from es_django.outbox.publishers import Publisher, publisher_for
from es_django.outbox.retry_policy import decide, exhausted, is_about_destination, outage
from es_django.outbox.second_worker import SecondWorker
from es_django.outbox.states import Transition
from es_django.store.errors import StorageError

logger: Log = Log("es_django.outbox")

CALL_SIZE = 100
"""The highest number of messages in one call of a publisher."""
SETTLE_PAUSE = 0.5
"""Seconds to wait before claims are settled again, after the database failed."""


def relay(
    destination: str | None = None, *, seconds: float = 20.0, is_stopped: Callable[[], bool] = lambda: False
) -> int:
    """Publish the messages that are due, to one destination or to all. Return how many were published.

    End when no message is left to claim, after about `seconds`, or when `is_stopped` returns True. Give back
    claims whose messages were not handed to the publisher: other relays can claim these messages at once.

    - Any number of relays may run at the same time.
    - After a destination was unreachable, no message to it is claimed for some seconds. Then the relay tries again.
    - While full batches are due, a second thread relays too. It has its own connections, and also calls `is_stopped`.
    - If a publisher cannot be created, the error is logged, and the relay goes on with the other destinations. If
      `destination` is given, the error is raised.

    Raise `StorageError` if the database fails, and RuntimeError inside an open transaction.
    """
    deadline = time.monotonic() + seconds

    def is_over() -> bool:
        return is_stopped() or time.monotonic() >= deadline

    def work(block_ended: Callable[[], bool]) -> int:
        return _relay_in_turn(destination, lambda: block_ended() or is_over())

    with SecondWorker(work) as second_worker:
        published = _relay_in_turn(destination, is_over, second_worker.start)
    return published + second_worker.published


def _relay_in_turn(
    destination: str | None, is_over: Callable[[], bool], start_second_worker: Callable[[], None] = lambda: None
) -> int:
    """Relay one batch of each destination in turn, so that a slow destination does not starve the others."""
    waiting = [destination] if destination is not None else list(conf.settings().destinations)
    published = 0
    while waiting and not is_over():
        for name in list(waiting):
            claimed, done = 0, 0
            try:
                if not circuit_breaker.is_open(name):
                    claimed, done = _relay_batch(name, is_over)
            except StorageError:
                raise
            except (EsDjangoError, ImproperlyConfigured):
                if destination is not None:
                    raise
                logger.exception("the messages to %s could not be relayed", name, extra={"destination": name})
            published += done
            if claimed == 0 or circuit_breaker.is_open(name):
                waiting.remove(name)
            elif _deserves_second_worker(name, claimed):
                start_second_worker()
    return published


def _deserves_second_worker(destination: str, claimed: int) -> bool:
    return outbox_store().is_concurrent and CALL_SIZE < claimed == conf.settings().outbox_of(destination).batch_size


def _relay_batch(destination: str, is_over: Callable[[], bool]) -> tuple[int, int]:
    """Relay one batch. Return the number of claimed messages and the number of published messages."""
    publisher = publisher_for(destination)
    limits = conf.settings().outbox_of(destination)
    # After an outage, a single message finds out whether the destination accepts messages again.
    share = batch_share.of(destination)
    limit = 1 if circuit_breaker.is_probing(destination) else max(1, int(limits.batch_size * share))
    store = outbox_store()
    # Each batch has a new worker name, so that no other batch can settle the claims of this batch.
    worker = f"{socket.gethostname()[:200]}:{os.getpid()}:{uuid4().hex[:8]}"
    claimed_at = time.monotonic()
    claims = store.claim(destination, worker, limit=limit, lease=limits.lease, max_bytes=int(BATCH_BYTES * share))
    if not claims:
        return 0, 0
    with Heartbeat(store, worker, claims, claimed_at=claimed_at, lease=limits.lease) as heartbeat:
        settlements = list(_publish(destination, publisher, claims, heartbeat, is_over))
        lost_claims = _settle(store, worker, settlements, heartbeat)
    in_time = len(settlements) == len(claims) and not any(lost_claims)
    batch_share.record(destination, in_time=in_time)
    published = 0
    for settlement, lost in zip(settlements, lost_claims, strict=True):
        if lost is not None:
            logger.warning("%s: the message will be published again", lost, extra=_ids(settlement.claim))
        elif settlement.tried and settlement.error is None:
            published += 1
        elif decide(settlement, limits).transition is Transition.DEAD_LETTER:
            known, error = settlement.claim.message.message_id, settlement.error
            logger.error("message %s is dead: %s", known, error, exc_info=error, extra=_ids(settlement.claim))
    return len(claims), published


def _publish(
    destination: str, publisher: Publisher, claims: Sequence[Claim], heartbeat: Heartbeat, is_over: Callable[[], bool]
) -> Iterator[Settlement]:
    """Publish the messages in waves, and yield the settlements of their claims.

    A wave has at most one message of each key. So when a message fails, later messages of its key are not sent yet,
    and are held back. Claims that the worker no longer holds have no settlement.
    """
    out_of_attempts = exhausted(claims, conf.settings().outbox_of(destination))
    held_back: set[str] = set()

    def hold_back(claim: Claim) -> None:
        if claim.message.key is not None:
            held_back.add(claim.message.key)

    over = False
    for wave in _waves(claims):
        over = over or is_over()
        ready: list[Claim] = []
        for claim in wave:
            if not heartbeat.holds(claim):
                hold_back(claim)
            elif over or claim.message.key in held_back:
                yield Settlement(claim, tried=False)
            elif claim.id in out_of_attempts:
                reason = claim.last_error or "all attempts are used up, and no attempt finished"
                yield Settlement(claim, PublishError(reason, retryable=False), tried=False)
                hold_back(claim)
            else:
                ready.append(claim)
        outcomes = _outcomes(publisher, ready)
        is_probe = circuit_breaker.is_probing(destination)
        failure = outage(outcomes, is_probe=is_probe)
        delay = 0.0
        if failure is not None:
            circuit_breaker.record_failure(destination, failure)
            delay = circuit_breaker.pause_of_probe(destination)
            over = True
        elif outcomes:
            circuit_breaker.record_success(destination)
        for claim, error in zip(ready, outcomes, strict=True):
            if error is not None:
                hold_back(claim)
                if failure is None or not is_about_destination(error):
                    known = claim.message.message_id, claim.attempts
                    logger.warning("message %s was not published, attempt %s: %s", *known, error, extra=_ids(claim))
            yield (
                Settlement(claim, error, tried=False, delay=delay)
                if failure is not None and is_about_destination(error)
                else Settlement(claim, error)
            )
        heartbeat.record_progress()


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
        # Calls are small: only between calls, the relay notices that its time is over or its claims are lost.
        for start in range(0, len(each), CALL_SIZE):
            yield each[start : start + CALL_SIZE]


def _outcomes(publisher: Publisher, claims: Sequence[Claim]) -> Sequence[PublishError | None]:
    """Publish the messages. Return the outcome of each: None if it arrived, otherwise the error."""
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
    """Call the publisher. Turn exceptions and invalid results into outcomes, because any project can write one."""
    name = type(publisher).__name__
    try:
        outcomes = list(publisher.publish([claim.message for claim in claims]))
    except DestinationUnreachable as error:
        return [error] * len(claims)
    except Exception as error:
        ids = {"destination": claims[0].message.destination}
        logger.exception("%s raised an error instead of returning outcomes", name, extra=ids)
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


def _settle(
    store: OutboxStore, worker: str, settlements: Sequence[Settlement], heartbeat: Heartbeat
) -> list[ClaimLost | None]:
    """Settle the claims. If the database fails, try again while any claim is still held."""
    while True:
        try:
            return store.settle(worker, settlements)
        except StorageError as error:
            if not error.retryable or not any(heartbeat.holds(settlement.claim) for settlement in settlements):
                raise
            ids = {"worker": worker, "destination": settlements[0].claim.message.destination}
            logger.warning("worker %s could not settle its claims, and tries again: %s", worker, error, extra=ids)
            time.sleep(SETTLE_PAUSE)


def _ids(claim: Claim) -> dict[str, object]:
    message = claim.message
    known = {"message_id": message.message_id, "destination": message.destination, "attempt": claim.attempts}
    if message.stream is None:
        return known
    stream = {"category": message.stream.category, "key": message.stream.key}
    return {**known, **stream, "version": message.stream_version}
