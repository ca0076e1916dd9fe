"""Metrics for Prometheus, in its default registry. es_django imports this module if `prometheus-client` is installed.

- Counters and durations are recorded when this process does the work, whether or not its transaction commits.
- Gauges are read from the database at each scrape, through `health.status()`.

In prometheus-client's multiprocess mode, each scrape has a registry of its own. Register `HealthCollector()` in it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from django.db import connections
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from es_django import conf
from es_django.core.errors import EsDjangoError
from es_django.core.instrumentation import Kind, Work, listeners

if TYPE_CHECKING:
    from es_django.monitoring.health import Health

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_WORK = {
    Kind.APPEND: "appends",
    Kind.PUBLISH: "calls of publishers",
    Kind.PROJECT: "batches of projections",
    Kind.HANDLE: "calls of handlers",
}

_seconds = {
    kind: Histogram(f"es_django_{kind.value}_seconds", f"Duration of {work} in seconds", [kind.label], buckets=_BUCKETS)
    for kind, work in _WORK.items()
}
_items = {
    kind: Counter(
        f"es_django_{kind.value}_{kind.items}", f"{kind.items.capitalize()} by outcome", [kind.label, "outcome"]
    )
    for kind in Kind
}


@contextmanager
def measured(work: Work) -> Iterator[None]:
    started = perf_counter()
    try:
        yield
    finally:
        _seconds[work.kind].labels(work.subject).observe(perf_counter() - started)
        for outcome, count in work.outcomes.items():
            _items[work.kind].labels(work.subject, outcome).inc(count)


class HealthCollector(Collector):
    """Reads `health.status()` at each scrape. If that fails, `es_django_up` is 0 and the other gauges are absent."""

    def collect(self) -> Iterator[Metric]:
        from es_django.monitoring.health import status

        connection = connections[conf.settings().database]
        was_open = connection.connection is not None
        try:
            health = status()
        except EsDjangoError:
            yield _gauge("up", "1 if the database answered, 0 if it failed", [], [([], 0)])
            return
        finally:
            # A scrape may run in a thread without a request. Django closes connections only at the end of a request.
            if not was_open:
                connection.close()
        yield _gauge("up", "1 if the database answered, 0 if it failed", [], [([], 1)])
        yield from _gauges(health)

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that registering the collector does not query the database."""
        return []


def _gauges(health: "Health") -> Iterator[Metric]:
    log = health.log
    yield _gauge("problems", "Number of problems that es_status shows", [], [([], len(health.problems))])
    yield _gauge("log_newest_position", "Position of the newest event", [], [([], log.newest)])
    yield _gauge("log_safe_end_position", "Position of the safe end of the log", [], [([], log.safe_end)])
    yield _gauge(
        "log_held_back_seconds",
        "Seconds for which appends in flight have held readers back",
        [],
        [([], log.held_back.seconds)],
    )
    projections = [([each.name, str(each.partition)], each) for each in health.projections]
    labels = ["projection", "partition"]
    followed = [(key, each.position) for key, each in projections if each.position is not None]
    yield _gauge("projection_position", "Position of the checkpoint", labels, followed)
    waiting = [(key, each.lag.count) for key, each in projections]
    yield _gauge("projection_waiting_events", "Number of events that are not applied yet", labels, waiting)
    lags = [(key, each.lag.seconds) for key, each in projections]
    yield _gauge("projection_lag_seconds", "Age of the oldest event that is not applied yet", labels, lags)
    statuses = [([*key, each.status], 1.0) for key, each in projections]
    yield _gauge("projection_status", "1 for the current status", [*labels, "status"], statuses)
    destinations = health.destinations
    lags = [([each.name], each.due_seconds) for each in destinations]
    yield _gauge("outbox_lag_seconds", "Seconds for which the oldest message has been due", ["destination"], lags)
    ages = [([each.name], each.backing_off_seconds) for each in destinations]
    yield _gauge("outbox_failing_seconds", "Age of the oldest message that will be retried", ["destination"], ages)
    counts = [([each.name, state.value], count) for each in destinations for state, count in each.counts.items()]
    yield _gauge("outbox_messages", "Messages by state", ["destination", "state"], counts)
    yield _gauge("inbox_dead_messages", "Number of dead messages in the inbox", [], [([], health.dead_receipts)])


def _gauge(
    name: str, documentation: str, labels: list[str], samples: Iterable[tuple[list[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"es_django_{name}", documentation, labels=labels)
    for key, value in samples:
        family.add_metric(key, value)
    return family


listeners.append(measured)
REGISTRY.register(HealthCollector())
