"""Each process counts its own work, and a scrape reads the health of the store."""

from collections.abc import Callable
from datetime import timedelta
from wsgiref.util import setup_testing_defaults

import pytest
from django.db import connection, transaction
from django.utils import timezone
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, make_wsgi_app
from pytest_django import DjangoAssertNumQueries

from es_django import ConcurrencyError, StorageError, StreamId, StreamWrite, event_store, outbox
from es_django.errors import PublishError
from es_django.inbox.processing import handle
from es_django.models import InboxReceipt, OutboxMessage
from es_django.monitoring import health, metrics
from es_django.outbox.relay import relay
from es_django.projections import pause, run_projection
from es_django.store.base import SEVERAL_CATEGORIES
from tests.inbox.deliveries import consumer, failing, make_message
from tests.projections.effects import Counted, count, fail_at, no_mishap, position_of
from tests.publishers import Recorder
from tests.threads import threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]


@pytest.fixture(autouse=True)
def _only_the_handlers_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_django.inbox.handlers._handlers", {})


Grown = Callable[..., float]


@pytest.fixture
def grown() -> Grown:
    """Return how much a counter has grown since the test began."""
    before = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
    }

    def since(name: str, **labels: str) -> float:
        now = REGISTRY.get_sample_value(name, labels) or 0.0
        return now - before.get((name, *sorted(labels.items())), 0.0)

    return since


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"es_django_{name}", labels)


class TestCounters:
    def test_appended_events_are_counted_by_category_and_outcome(self, grown: Grown) -> None:
        stream = StreamId("counter", "c-1")
        event_store.append(stream, [Counted(number=1), Counted(number=2)], expected=0)
        with pytest.raises(ConcurrencyError):
            event_store.append(stream, [Counted(number=3)], expected=1)
        assert grown("es_django_append_events_total", category="counter", outcome="done") == 2
        assert grown("es_django_append_events_total", category="counter", outcome="conflict") == 1
        assert grown("es_django_append_seconds_count", category="counter") == 2

    def test_an_append_to_several_categories_is_counted_once(self, grown: Grown) -> None:
        writes = [StreamWrite(StreamId(category, "c-1"), [Counted(number=1)], 0) for category in ("counter", "other")]
        event_store.append_all(writes)
        assert grown("es_django_append_events_total", category=SEVERAL_CATEGORIES, outcome="done") == 2

    def test_published_and_failed_messages_are_counted_by_destination(
        self, grown: Grown, recorder: type[Recorder]
    ) -> None:
        for number in (1, 2, 3):
            outbox.send("tests", type="tests.note", data=number)
        recorder.fail = staticmethod(lambda message: PublishError("down") if message.data == 2 else None)
        relay("tests")
        assert grown("es_django_publish_messages_total", destination="tests", outcome="done") == 2
        assert grown("es_django_publish_messages_total", destination="tests", outcome="failed") == 1
        assert grown("es_django_publish_seconds_count", destination="tests") == 1

    def test_batches_of_a_projection_are_counted(self, grown: Grown) -> None:
        count(1, 2, 3)
        run_projection("tests.effects")
        count(4)
        fail_at(4)
        run_projection("tests.effects")
        no_mishap()
        assert grown("es_django_project_events_total", projection="tests.effects", outcome="done") == 3
        assert grown("es_django_project_events_total", projection="tests.effects", outcome="failed") == 1
        assert grown("es_django_project_seconds_count", projection="tests.effects") == 2

    def test_handled_messages_are_counted_by_consumer_and_outcome(self, grown: Grown) -> None:
        consumer("mailer")
        message = make_message()
        handle(message)
        handle(message)
        consumer("mailer", failing(ValueError("a bug")))
        handle(make_message())
        for outcome in ("handled", "repeated", "dead"):
            assert grown("es_django_handle_messages_total", consumer="mailer", outcome=outcome) == 1

    def test_quotes_in_labels_are_escaped(self) -> None:
        consumer('two "lines"', lambda message: None)
        handle(make_message())
        assert 'consumer="two \\"lines\\""' in generate_latest(REGISTRY).decode()


class TestHealthCollector:
    def test_a_scrape_returns_every_value_of_the_health(self) -> None:
        count(1, 2)
        run_projection("tests.effects")
        count(3)
        pause("tests.effects", by="Ada")
        for number in (1, 2, 3, 4, 5, 6):
            outbox.send("tests", type="tests.note", data=number)
        later = timezone.now() + timedelta(hours=1)
        OutboxMessage.objects.filter(data=3).update(status="claimed", claimed_by="a", claimed_until=later)
        OutboxMessage.objects.filter(data=4).update(attempts=1, available_at=later)
        OutboxMessage.objects.filter(data=2).update(status="dead", failed_at="2026-01-01T00:00:00Z")
        OutboxMessage.objects.filter(data=5).update(available_at=later)
        OutboxMessage.objects.filter(data=6).update(
            status="claimed", claimed_by="a", claimed_until="2026-01-01T00:00:00Z"
        )
        InboxReceipt.objects.create(consumer="mailer", message_id="a", status="dead", message={})
        effects = {"projection": "tests.effects", "partition": "0"}
        assert sample("up") == 1
        assert sample("problems") == 2
        assert sample("inbox_dead_messages") == 1
        assert sample("log_newest_position") == sample("log_safe_end_position") == position_of(3)
        assert sample("log_held_back_seconds") == 0
        assert sample("projection_position", **effects) == position_of(2)
        assert sample("projection_waiting_events", **effects) == 1
        lag = sample("projection_lag_seconds", **effects)
        assert lag is not None
        assert 0 <= lag < 60
        assert sample("projection_status", **effects, status="paused") == 1
        for state in ("ready", "scheduled", "in_flight", "abandoned", "backing_off", "dead"):
            assert sample("outbox_messages", destination="tests", state=state) == 1
        assert sample("projection_position", projection="balances", partition="0") is None

    def test_a_scrape_without_a_database_still_has_the_counters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise StorageError("read the status", True, "gone")

        count(1)
        monkeypatch.setattr(health, "status", fail)
        assert sample("up") == 0
        assert sample("log_newest_position") is None
        assert sample("append_events_total", category="counter", outcome="done")

    def test_the_collector_can_be_registered_elsewhere_without_a_query(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        registry = CollectorRegistry(auto_describe=True)
        with django_assert_num_queries(0):
            registry.register(metrics.HealthCollector())
        assert b"es_django_up 1.0" in generate_latest(registry)

    def test_a_scrape_closes_the_connection_of_its_thread(self) -> None:
        def scrape() -> tuple[bytes, object]:
            environment: dict[str, object] = {}
            setup_testing_defaults(environment)
            body = b"".join(make_wsgi_app()(environment, lambda status, headers: None))
            return body, connection.connection

        with threads(1) as submit:
            body, left = submit(scrape).result(30)
        assert b"es_django_up 1.0" in body
        assert left is None

    def test_a_scrape_within_a_request_keeps_its_connection(self) -> None:
        with transaction.atomic():
            count(1)
            assert sample("up") == 1
            assert connection.connection is not None
            count(2)
