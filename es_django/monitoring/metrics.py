"""Metrics for Prometheus: imported where `prometheus-client` is installed, and in its default registry from then on.

What this process does is counted as it is done, whether or not its transaction commits. How the store is doing is asked
when a scrape comes by. In prometheus-client's multiprocess mode, where a scrape has a registry of its own, register
`HealthCollector()` there.
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

_seconds = {
    kind: Histogram(f"es_django_{kind.value}_seconds", f"Seconds of each {kind.value}", [kind.label], buckets=_BUCKETS)
    for kind in Kind
}
_items = {
    kind: Counter(f"es_django_{kind.value}_{kind.items}", f"What came of the {kind.items}", [kind.label, "outcome"])
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
    """Asks `es_django.health.status()` at each scrape; if that fails, `es_django_up` is 0 and all else is absent."""

    def collect(self) -> Iterator[Metric]:
        from es_django.monitoring.health import status

        connection = connections[conf.settings().database]
        was_open = connection.connection is not None
        try:
            health = status()
        except EsDjangoError:
            yield _gauge("up", "Whether the database told the rest", [], [([], 0)])
            return
        finally:
            # The thread of a scrape may have no request whose end closes it.
            if not was_open:
                connection.close()
        yield _gauge("up", "Whether the database told the rest", [], [([], 1)])
        yield from _gauges(health)

    def describe(self) -> Iterable[Metric]:
        """Nothing: to be registered must not ask the database."""
        return []


def _gauges(health: "Health") -> Iterator[Metric]:
    log = health.log
    yield _gauge("problems", "What es_status calls a problem", [], [([], len(health.problems))])
    yield _gauge("log_newest_position", "Position of the newest event", [], [([], log.newest)])
    yield _gauge("log_safe_end_position", "Position up to which readers may go", [], [([], log.safe_end)])
    yield _gauge(
        "log_held_back_seconds", "For how long appends in flight have held readers", [], [([], log.held_back.seconds)]
    )
    projections = [([each.name, str(each.partition)], each) for each in health.projections]
    labels = ["projection", "partition"]
    followed = [(key, each.position) for key, each in projections if each.position is not None]
    yield _gauge("projection_position", "Position of the checkpoint", labels, followed)
    waiting = [(key, each.lag.count) for key, each in projections]
    yield _gauge("projection_waiting_events", "Events that are not applied yet", labels, waiting)
    lags = [(key, each.lag.seconds) for key, each in projections]
    yield _gauge("projection_lag_seconds", "Age of the oldest event that is not applied yet", labels, lags)
    statuses = [([*key, each.status], 1.0) for key, each in projections]
    yield _gauge("projection_status", "1 for the status that it has", [*labels, "status"], statuses)
    destinations = health.destinations
    lags = [([each.name], each.due_seconds) for each in destinations]
    yield _gauge("outbox_lag_seconds", "Seconds for which the oldest message has been due", ["destination"], lags)
    ages = [([each.name], each.backing_off_seconds) for each in destinations]
    yield _gauge("outbox_failing_seconds", "Age of the oldest message that will be retried", ["destination"], ages)
    counts = [([each.name, state.value], count) for each in destinations for state, count in each.counts.items()]
    yield _gauge("outbox_messages", "Messages by state", ["destination", "state"], counts)
    yield _gauge("inbox_dead_messages", "Messages that consumers have given up", [], [([], health.dead_receipts)])


def _gauge(
    name: str, documentation: str, labels: list[str], samples: Iterable[tuple[list[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"es_django_{name}", documentation, labels=labels)
    for key, value in samples:
        family.add_metric(key, value)
    return family


listeners.append(measured)
REGISTRY.register(HealthCollector())
