"""Spans for OpenTelemetry, linked to the spans of their causes.

es_django imports this module if `opentelemetry-api` is installed. The span of an append or a send is stored as
`traceparent`, in the metadata of the events and the headers of the messages. Publishing, projecting and handling happen
later, for many causes at once. So the later spans are not children of the stored spans, but link to them.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, get_current_span, get_tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from es_django.core import metadata
from es_django.core.instrumentation import Kind, Work, listeners

TRACEPARENT = "traceparent"
MOST_LINKS = 128
"""OpenTelemetry's default limit for the links of a span."""

_KINDS = {
    Kind.APPEND: SpanKind.INTERNAL,
    Kind.PUBLISH: SpanKind.PRODUCER,
    Kind.PROJECT: SpanKind.CONSUMER,
    Kind.HANDLE: SpanKind.CONSUMER,
}

_tracer = get_tracer("es_django")
_propagator = TraceContextTextMapPropagator()


@contextmanager
def traced(work: Work) -> Iterator[None]:
    """Open a span around the work. Record the class of an error, but not its text, which may quote a payload."""
    name = f"es_django.{work.kind.value}"
    with _tracer.start_as_current_span(
        name, kind=_KINDS[work.kind], record_exception=False, set_status_on_exception=False
    ) as span:
        if span.is_recording():
            for context in _contexts(work.causes):
                span.add_link(context)
        try:
            yield
        finally:
            if span.is_recording():
                span.set_attribute(f"es_django.{work.kind.label}", work.subject)
                for outcome, count in work.outcomes.items():
                    span.set_attribute(f"es_django.{work.kind.items}.{outcome}", count)
                if work.error is not None:
                    span.set_attribute("error.type", type(work.error).__qualname__)
                    span.set_status(Status(StatusCode.ERROR))


def traceparent() -> Mapping[str, str]:
    """Return the current span, for the metadata of events and messages that are written during the span."""
    carrier: dict[str, str] = {}
    if get_current_span().is_recording():
        _propagator.inject(carrier)
    return {name: value for name, value in carrier.items() if name == TRACEPARENT}


def _contexts(causes: Iterable[Mapping[str, str]]) -> Iterator[SpanContext]:
    known = (cause[TRACEPARENT] for cause in causes if TRACEPARENT in cause)
    for each in islice(dict.fromkeys(known), MOST_LINKS):
        context = get_current_span(_propagator.extract({TRACEPARENT: each})).get_span_context()
        if context.is_valid:
            yield context


listeners.append(traced)
metadata.sources.append(traceparent)
