"""How fast messages are claimed, settled and relayed, each beside a floor measured in the same run.

    python -m benchmarks.outbox [--quick]

Needs a PostgreSQL in DATABASE_URL, on which it makes a test database and drops it again, and RabbitMQ in AMQP_URL. The
floor of claiming and settling is bare psycopg with the same two statements; that of relaying is a bare loop of amqp
that waits for the confirms once per 100 messages, and touches no database. Ends with 1 if a ratio is missed, but
for the quick mode.
"""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, cast

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
django.setup()

import amqp  # noqa: E402
import kombu  # noqa: E402
import psutil  # noqa: E402
import psycopg  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from benchmarks.measure import fresh_database, rates, report  # noqa: E402
from es_django import Message  # noqa: E402
from es_django.outbox import postgresql  # noqa: E402
from es_django.outbox.publishers import Publisher  # noqa: E402
from es_django.outbox.relay import relay  # noqa: E402
from es_django.outbox.store import Settlement, outbox_store  # noqa: E402

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
QUEUE = "es_django.benchmark"
BATCH = 500
MOST_GROWTH = 32 * 2**20
"""Bytes that a relay may take beyond what it has taken after its first tenth."""

FILL = """
INSERT INTO es_django_outboxmessage
       (message_id, destination, type, key, data, headers, status, attempts, last_error, available_at, created_at)
SELECT gen_random_uuid(), %(destination)s, 'es_django.benchmark', 'key-' || number,
       jsonb_build_object('account', 'account-' || number, 'amount', number, 'currency', 'EUR'), '{}',
       'pending', 0, '', now(), now()
  FROM generate_series(1, %(messages)s::bigint) AS number
"""


class Nowhere(Publisher):
    """Takes every message."""

    def publish(self, messages: Sequence[Message]) -> Sequence[None]:
        return [None] * len(messages)


class Benchmark:
    def __init__(self, messages: int) -> None:
        self.messages = messages

    def fill(self, destination: str = "nowhere") -> None:
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE es_django_outboxmessage")
            cursor.execute(FILL, {"messages": self.messages, "destination": destination})
            cursor.execute("ANALYZE es_django_outboxmessage")

    def claim_and_settle(self) -> int:
        settled = 0
        while claims := outbox_store().claim("nowhere", "worker", limit=BATCH, lease=60):
            outcomes = outbox_store().settle("worker", [Settlement(claim) for claim in claims])
            settled += outcomes.count(None)
        return settled

    def claim_and_settle_barely(self) -> int:
        settled = 0
        asked_for = {"destination": "nowhere", "worker": "worker", "limit": BATCH, "lease": 60}
        connection.ensure_connection()
        with psycopg.Cursor(connection.connection) as cursor:
            while rows := cursor.execute(postgresql.CLAIM.encode(), asked_for, prepare=True).fetchall():
                settlements = [
                    {
                        "id": row[0],
                        "attempts": row[1],
                        "counted": row[1],
                        "status": "published",
                        "error": "",
                        "delay": 0,
                    }
                    for row in rows
                ]
                parameters = {"worker": "worker", "settlements": json.dumps(settlements)}
                settled += len(cursor.execute(postgresql.SETTLE.encode(), parameters, prepare=True).fetchall())
        return settled

    def relay(self) -> int:
        return relay("rabbitmq", seconds=3600)

    def publish_barely(self) -> int:
        """The bodies that the relay sends, with as many confirms."""
        body = json.dumps({"type": QUEUE, "data": {"account": "account-1", "amount": 1, "currency": "EUR"}})
        confirmed = 0

        def count(tag: int, multiple: bool) -> None:
            nonlocal confirmed
            confirmed = tag if multiple else confirmed + 1

        with kombu.Connection(AMQP_URL) as opened:
            channel = cast("Any", opened.channel())
            channel.confirm_select()
            channel.events["basic_ack"].add(count)
            for number in range(1, self.messages + 1):
                message = amqp.Message(body, content_type="application/json", delivery_mode=2, message_id=str(number))
                channel.basic_publish(message, routing_key=QUEUE, mandatory=True)
                if number % 100 == 0:
                    while confirmed < number:
                        opened.drain_events()
        return self.messages


def grown_by(messages: int) -> int:
    """The bytes by which a relay of that many messages grows after its first tenth."""
    benchmark, process = Benchmark(messages), psutil.Process()
    benchmark.fill()
    before = highest = 0
    published = 0
    while done := relay("nowhere", seconds=0.5):
        published += done
        highest = max(highest, process.memory_info().rss)
        if not before and published >= messages / 10:
            before = highest
    assert published == messages, f"{published} of {messages} messages were relayed"
    return highest - before


def main() -> int:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few messages, to see that it works")
    quick = parser.parse_args().quick
    messages, rounds, many = (2_000, 3, 5_000) if quick else (10_000, 7, 1_000_000)
    benchmark = Benchmark(messages)
    destinations = {
        "nowhere": {"PUBLISHER": "benchmarks.outbox.Nowhere"},
        "rabbitmq": {
            "PUBLISHER": "es_django.outbox.publishers.kombu.KombuPublisher",
            "OPTIONS": {"url": AMQP_URL, "routing_key": QUEUE, "format": "json"},
        },
    }
    with (
        override_settings(ES_DJANGO={**settings.ES_DJANGO, "DESTINATIONS": destinations}),
        fresh_database(),
        kombu.Connection(AMQP_URL) as broker,
    ):
        queue = kombu.Queue(QUEUE, channel=broker.channel(), durable=False, auto_delete=False)
        queue.declare()
        try:
            found = rates(
                {"bare psycopg": benchmark.claim_and_settle_barely, "claim and settle": benchmark.claim_and_settle},
                rounds,
                prepare=benchmark.fill,
            )
            found |= rates(
                {"bare amqp": benchmark.publish_barely, "relay": benchmark.relay},
                rounds,
                prepare=lambda: benchmark.fill("rabbitmq"),
            )
        finally:
            queue.delete()
        growth = grown_by(many)
    ratios = [("claim and settle", "bare psycopg", 0.6), ("relay", "bare amqp", 0.7)]
    good = report(f"{messages:,} messages in batches of {BATCH}, median of {rounds}", found, ratios)
    print(f"Relay of {many:,} messages: {growth / 2**20:.1f} MB more after its first tenth")
    return int(not quick and not (good and growth <= MOST_GROWTH))


if __name__ == "__main__":
    sys.exit(main())
