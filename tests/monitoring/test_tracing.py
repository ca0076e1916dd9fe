"""Each kind of work has a span. Metadata and headers carry traceparents, so spans link to the spans of their causes."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode, Tracer

from es_django import ConcurrencyError, Message, StreamId, event_store, outbox, publishes
from es_django.core.metadata import current_metadata, metadata
from es_django.errors import PublishError
from es_django.inbox.processing import handle
from es_django.messages.cloudevents import from_cloudevent, to_cloudevent
from es_django.models import OutboxMessage
from es_django.monitoring import tracing
from es_django.outbox.relay import relay
from es_django.projections import run_projection
from tests.domain import LedgerOpened
from tests.inbox.deliveries import consumer, failing, make_message
from tests.projections.effects import Counted, count, fail_at, no_mishap
from tests.publishers import Recorder

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("recorder")]


@pytest.fixture(autouse=True)
def _only_the_handlers_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_django.inbox.handlers._handlers", {})


class Published(LedgerOpened):
    class Meta:
        name = "tests.tracing.published"


@publishes(Published, destination="tests")
def published(staged: object) -> dict[str, str]:
    return {}


STREAM = StreamId("traced", "t-1")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter) -> Iterator[Tracer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    found = provider.get_tracer("tests")
    monkeypatch.setattr(tracing, "_tracer", found)
    yield found
    provider.shutdown()


def span(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (one,) = [each for each in exporter.get_finished_spans() if each.name == name]
    return one


def traceparent_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def linked(span: ReadableSpan) -> set[str]:
    return {
        f"00-{each.context.trace_id:032x}-{each.context.span_id:016x}-{each.context.trace_flags:02x}"
        for each in span.links
    }


class TestAppend:
    def test_events_and_messages_have_the_traceparent_of_their_append(
        self, tracer: Tracer, exporter: InMemorySpanExporter
    ) -> None:
        with tracer.start_as_current_span("request") as request:
            (recorded,) = event_store.append(STREAM, [Published(owner="Ada")], expected=0)
        append = span(exporter, "es_django.append")
        assert append.parent is not None
        assert append.parent.span_id == request.get_span_context().span_id
        assert append.attributes == {"es_django.category": "traced", "es_django.events.done": 1}
        assert recorded.metadata["traceparent"] == traceparent_of(append)
        (stored,) = event_store.read_stream(STREAM)
        assert stored.metadata["traceparent"] == traceparent_of(append)
        assert OutboxMessage.objects.get().headers["traceparent"] == traceparent_of(append)

    def test_a_conflict_marks_its_span_as_an_error(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        with pytest.raises(ConcurrencyError):
            event_store.append(STREAM, [Published(owner="Ada")], expected=3)
        append = span(exporter, "es_django.append")
        assert append.status.status_code is StatusCode.ERROR
        assert append.attributes == {
            "es_django.category": "traced",
            "es_django.events.conflict": 1,
            "error.type": "ConcurrencyError",
        }

    def test_without_a_recorded_span_no_traceparent_is_added(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with metadata(user="ada"):
            event_store.append(STREAM, [Published(owner="Ada")], expected=0)
            monkeypatch.setattr(tracing, "_tracer", TracerProvider(sampler=ALWAYS_OFF).get_tracer("tests"))
            event_store.append(STREAM, [Published(owner="Ada")], expected=1)
        assert [each.metadata for each in event_store.read_stream(STREAM)] == [{"user": "ada"}] * 2
        assert [each.headers for each in OutboxMessage.objects.all()] == [
            {"causation_id": str(each.event_id)} for each in event_store.read_stream(STREAM)
        ]


class TestPublish:
    def test_a_sent_message_has_the_traceparent_of_the_span_around_it(
        self, tracer: Tracer, exporter: InMemorySpanExporter
    ) -> None:
        with tracer.start_as_current_span("request"):
            outbox.send("tests", type="tests.note", data=1)
        assert OutboxMessage.objects.get().headers == {"traceparent": traceparent_of(span(exporter, "request"))}

    def test_a_publish_links_to_the_spans_that_sent_its_messages(
        self, tracer: Tracer, exporter: InMemorySpanExporter
    ) -> None:
        for name in ("one", "two"):
            with tracer.start_as_current_span(name):
                outbox.send("tests", type="tests.note", data=1)
                outbox.send("tests", type="tests.note", data=2)
        assert relay("tests") == 4
        publish = span(exporter, "es_django.publish")
        assert publish.attributes is not None
        assert publish.attributes["es_django.messages.done"] == 4
        assert publish.parent is None
        assert linked(publish) == {traceparent_of(span(exporter, name)) for name in ("one", "two")}

    def test_a_failed_publish_marks_its_span_as_an_error(
        self, tracer: Tracer, exporter: InMemorySpanExporter, recorder: type[Recorder]
    ) -> None:
        outbox.send("tests", type="tests.note", data=1)
        recorder.fail = staticmethod(lambda message: PublishError("payload"))
        relay("tests")
        publish = span(exporter, "es_django.publish")
        assert publish.status.status_code is StatusCode.ERROR
        assert publish.attributes == {
            "es_django.destination": "tests",
            "es_django.messages.done": 0,
            "es_django.messages.failed": 1,
            "error.type": "PublishError",
        }

    def test_a_cloudevent_carries_the_traceparent(self) -> None:
        message = make_message(headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
        event = to_cloudevent(message)
        assert event.get_attributes()["traceparent"] == message.headers["traceparent"]
        assert from_cloudevent(event).headers["traceparent"] == message.headers["traceparent"]


class TestProject:
    def test_a_batch_of_a_projection_links_to_the_appends(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        count(1, 2)
        appends = {traceparent_of(each) for each in exporter.get_finished_spans()}
        assert run_projection("tests.effects") == 2
        batch = span(exporter, "es_django.project")
        assert batch.attributes == {"es_django.projection": "tests.effects", "es_django.events.done": 2}
        assert linked(batch) == appends
        assert len(appends) == 2

    def test_the_links_of_a_batch_are_limited_to_what_a_span_can_hold(
        self, tracer: Tracer, exporter: InMemorySpanExporter
    ) -> None:
        number = tracing.MOST_LINKS + 2
        for each in range(number):
            event_store.append(StreamId("counter", f"c-{each}"), [Counted(number=each)], expected=0)
        assert run_projection("tests.effects") == number
        assert len(span(exporter, "es_django.project").links) == tracing.MOST_LINKS

    def test_the_span_of_a_failed_batch_has_the_class_of_the_error_and_not_its_text(
        self, tracer: Tracer, exporter: InMemorySpanExporter
    ) -> None:
        count(1)
        fail_at(1)
        run_projection("tests.effects")
        no_mishap()
        batch = span(exporter, "es_django.project")
        assert batch.attributes is not None
        assert batch.attributes["error.type"] == "ValueError"
        assert batch.status.status_code is StatusCode.ERROR
        assert "poison" not in batch.to_json()


class TestHandle:
    def test_a_handler_links_to_the_sender_and_passes_on_its_own_span(
        self, tracer: Tracer, exporter: InMemorySpanExporter
    ) -> None:
        with tracer.start_as_current_span("sender"):
            message = make_message(headers=dict(current_metadata()))
        seen: list[str] = []

        def handler(message: Message) -> None:
            seen.append(current_metadata()["traceparent"])

        consumer("mailer", handler)
        handle(message)
        handled = span(exporter, "es_django.handle")
        assert linked(handled) == {traceparent_of(span(exporter, "sender"))}
        assert handled.attributes == {"es_django.consumer": "mailer", "es_django.messages.handled": 1}
        assert seen == [traceparent_of(handled)]

    def test_a_failed_handler_marks_its_span_as_an_error(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        consumer("mailer", failing(ValueError("payload")))
        handle(make_message())
        handled = span(exporter, "es_django.handle")
        assert handled.attributes == {
            "es_django.consumer": "mailer",
            "es_django.messages.dead": 1,
            "error.type": "ValueError",
        }
        assert "payload" not in handled.to_json()

    @pytest.mark.parametrize("header", ["", "00-no", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
    def test_an_invalid_traceparent_is_not_a_link(
        self, tracer: Tracer, exporter: InMemorySpanExporter, header: str
    ) -> None:
        consumer("mailer")
        handle(make_message(headers={"traceparent": header}))
        assert span(exporter, "es_django.handle").links == ()
