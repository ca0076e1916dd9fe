"""The measured events (six fields; alone, with a message, with an inline projection) and their aggregates."""

from collections.abc import Sequence

import psycopg
from django.db import connection, models

from es_django import Aggregate, Event, Message, Projection, RecordedEvent, StagedEvent, applies, projects, publishes
from es_django.outbox.publishers import Publisher


class Measured(Event):
    account: str
    amount: int
    currency: str
    reason: str
    by: str
    number: int

    class Meta:
        name = "benchmarks.measured"


class Published(Measured):
    class Meta:
        name = "benchmarks.published"


class Followed(Measured):
    class Meta:
        name = "benchmarks.followed"


def measured(number: int, event_class: type[Measured] = Measured) -> Measured:
    return event_class(
        account="account-1",
        amount=number * 100,
        currency="EUR",
        reason="a reason of some length",
        by="somebody",
        number=number,
    )


class Subject(Aggregate):
    amount: int = 0

    class Meta:
        category = "benchmark"

    @applies
    def _measured(self, event: Measured) -> None:
        self.amount += event.amount


class Cached(Subject):
    class Meta:
        category = "benchmark-cached"
        snapshot_every = 990


@publishes(Published, destination="nowhere")
def publish(staged: StagedEvent[Published]) -> dict[str, object]:
    return {"account": staged.event.account, "amount": staged.event.amount, "currency": staged.event.currency}


class Nowhere(Publisher):
    """Accepts every message."""

    def publish(self, messages: Sequence[Message]) -> Sequence[None]:
        return [None] * len(messages)


class Tally(models.Model):
    key = models.CharField(max_length=255, primary_key=True)
    amount = models.IntegerField()

    objects: models.Manager["Tally"] = models.Manager()

    class Meta:
        app_label = "benchmarks"
        db_table = "benchmarks_tally"

    def __str__(self) -> str:
        return self.key


PROJECT = "INSERT INTO benchmarks_tally (key, amount) VALUES (%s, %s)"


class Tallies(Projection):
    """Writes its row with the floor's statement, so that Django's ORM is not measured."""

    class Meta:
        name = "benchmarks.tallies"
        mode = "inline"
        models = [Tally]

    @projects
    def followed(self, event: Followed, recorded: RecordedEvent) -> None:
        with connection.cursor() as cursor:
            cursor.execute(PROJECT, [recorded.stream.key, event.amount])


def create_tables() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Tally)


FILL = """
WITH stream AS (
    INSERT INTO es_django_stream (category, key, version, created_at, updated_at)
    SELECT %(category)s, %(prefix)s || number, %(events)s, clock_timestamp(), clock_timestamp()
      FROM generate_series(1, %(streams)s) AS number
    RETURNING id
)
INSERT INTO es_django_event (stream_id, version, type, schema_version, data, metadata, event_id, recorded_at)
SELECT stream.id, version, 'benchmarks.measured', 1,
       jsonb_build_object('account', 'account-' || stream.id, 'amount', version * 100, 'currency', 'EUR',
                          'reason', 'a reason of some length', 'by', 'a user', 'number', version),
       '{"request": "r-1"}', gen_random_uuid(), clock_timestamp()
  FROM generate_series(1, %(events)s) AS version CROSS JOIN stream
 ORDER BY version, stream.id
"""


def fill(bare: psycopg.Connection, streams: int, events: int, *, prefix: str = "s-") -> None:
    """Create streams with the keys `prefix1`, `prefix2`, ..., each with the same number of events."""
    bare.execute(
        FILL, {"category": Subject.category, "prefix": prefix, "streams": streams, "events": events}, prepare=False
    )
