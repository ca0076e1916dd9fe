"""Claim, settle and relay messages.

Claiming and settling is measured beside bare psycopg with the same two statements. The relay to RabbitMQ is measured
beside a bare amqp loop without a database, which waits for confirms once per 100 messages.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, cast

import amqp
import kombu
import psutil
import psycopg
from django.conf import settings
from django.test.utils import override_settings

from benchmarks.measure import WARM_UP, Effort, Figure, Title, Work, alone, bare_connection, compare
from es_django.outbox.backends import outbox_store
from es_django.outbox.port import BATCH_BYTES, Settlement
from es_django.outbox.relay import relay
from es_django.outbox.sql import postgresql

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
QUEUE = "es_django.benchmark"
BATCH = 500

FILL = """
INSERT INTO es_django_outboxmessage
       (message_id, destination, type, key, data, headers, status, attempts, last_error, available_at, created_at,
        published_at)
SELECT gen_random_uuid(), %(destination)s, 'es_django.benchmark', 'key-' || number,
       jsonb_build_object('account', 'account-' || number, 'amount', number, 'currency', 'EUR'), '{}',
       %(status)s::text, 0, '', now(), now(), CASE WHEN %(status)s::text = 'published' THEN now() END
  FROM generate_series(1, %(messages)s::bigint) AS number
"""


def fill_outbox(
    bare: psycopg.Connection, messages: int, *, destination: str = "nowhere", status: str = "pending"
) -> None:
    bare.execute(FILL, {"messages": messages, "destination": destination, "status": status}, prepare=False)


def refill(messages: int, destination: str) -> None:
    with bare_connection() as bare:
        bare.execute("TRUNCATE es_django_outboxmessage", prepare=False)
        fill_outbox(bare, messages, destination=destination)
        bare.execute("ANALYZE es_django_outboxmessage", prepare=False)


def claim_and_settle() -> None:
    """A batch."""
    claims = outbox_store().claim("nowhere", "worker", limit=BATCH, lease=60)
    outcomes = outbox_store().settle("worker", [Settlement(claim) for claim in claims])
    assert outcomes == [None] * BATCH


def claiming_and_settling(batches: int) -> Work:
    refill(batches * BATCH, "nowhere")
    return claim_and_settle


def barely_claiming_and_settling(batches: int) -> Work:
    refill(batches * BATCH, "nowhere")
    cursor = bare_connection().cursor()
    asked_for = {"destination": "nowhere", "worker": "worker", "limit": BATCH, "max_bytes": BATCH_BYTES}
    asked_for |= {"lease": 60, "suspect_from": 2}
    published = {"status": "published", "error": "", "delay": 0}

    def work() -> None:
        rows = cursor.execute(postgresql.CLAIM.encode(), asked_for).fetchall()
        settlements = [{"id": row[0], "attempts": row[1], "counted": row[1], **published} for row in rows]
        parameters = {"worker": "worker", "settlements": json.dumps(settlements)}
        assert len(cursor.execute(postgresql.SETTLE.encode(), parameters).fetchall()) == BATCH

    return work


def relaying(messages: int) -> Work:
    refill(messages, "rabbitmq")

    def work() -> None:
        assert relay("rabbitmq", seconds=3600) == messages

    return work


def barely_publishing(messages: int) -> Work:
    """Send the same bodies as the relay, and wait for as many confirms."""
    body = json.dumps({"type": QUEUE, "data": {"account": "account-1", "amount": 1, "currency": "EUR"}})

    def work() -> None:
        confirmed = 0

        def count(tag: int, multiple: bool) -> None:
            nonlocal confirmed
            confirmed = tag if multiple else confirmed + 1

        with kombu.Connection(AMQP_URL) as opened:
            channel = cast("Any", opened.channel())
            channel.confirm_select()
            channel.events["basic_ack"].add(count)
            for number in range(1, messages + 1):
                message = amqp.Message(body, content_type="application/json", delivery_mode=2, message_id=str(number))
                channel.basic_publish(message, routing_key=QUEUE, mandatory=True)
                if number % 100 == 0 or number == messages:
                    while confirmed < number:
                        opened.drain_events()

    return work


def memory_of_relay(messages: int) -> tuple[float, float]:
    """Return the memory of this process in megabytes, after a tenth of the messages and at its peak."""
    refill(messages, "nowhere")
    process = psutil.Process()
    early = highest = published = 0
    while done := relay("nowhere", seconds=0.5):
        published += done
        highest = max(highest, process.memory_info().rss)
        if not early and published >= messages / 10:
            early = highest
    assert published == messages, f"{published} of {messages} messages were relayed"
    return early / 2**20, highest / 2**20


def require_broker() -> None:
    """Exit unless RabbitMQ answers. Called before the first measurement, so that no measurement is wasted."""
    with kombu.Connection(AMQP_URL) as broker:
        try:
            broker.ensure_connection(max_retries=1, timeout=5)
        except kombu.exceptions.OperationalError as error:
            sys.exit(
                f"RabbitMQ does not answer at {broker.as_uri()}: {error}\n"
                "Start it, set AMQP_URL, or name the parts to run without outbox and peers."
            )


def measure(effort: Effort) -> Iterator[Figure]:
    batches, messages, many = effort.of(20), effort.of(10_000), effort.of(1_000_000)
    rabbitmq = {
        "PUBLISHER": "es_django.outbox.publishers.kombu.KombuPublisher",
        "OPTIONS": {"url": AMQP_URL, "routing_key": QUEUE, "format": "json"},
    }
    ours = settings.ES_DJANGO
    destinations = {**ours["DESTINATIONS"], "rabbitmq": rabbitmq}
    with override_settings(ES_DJANGO={**ours, "DESTINATIONS": destinations}), kombu.Connection(AMQP_URL) as broker:
        yield compare(
            Title("outbox", f"claim and settle {BATCH}", "messages"),
            alone(lambda: claiming_and_settling(batches + WARM_UP), batches, each=BATCH),
            alone(lambda: barely_claiming_and_settling(batches + WARM_UP), batches, each=BATCH),
            0.6,
            effort,
        )
        queue = kombu.Queue(QUEUE, channel=broker.channel(), durable=False, auto_delete=False)
        queue.declare()
        try:
            yield compare(
                Title("outbox", "relay to RabbitMQ, confirmed", "messages", beside="bare amqp"),
                alone(lambda: relaying(messages), 1, each=messages, warm_up=0),
                alone(lambda: barely_publishing(messages), 1, each=messages, warm_up=0),
                0.7,
                effort,
            )
        finally:
            queue.delete()
        early, highest = memory_of_relay(many)
        yield Figure(
            Title("outbox", f"memory of a relay of {many:,} messages", "MB", beside="at its peak"), early, highest, 0.75
        )
