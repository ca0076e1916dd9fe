"""Work is reported to the listeners that are installed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings

from es_django import ConcurrencyError, StreamId
from es_django.core import instrumentation
from es_django.core.instrumentation import Kind, Work

ALONE = """
import os, sys

for extra in ("prometheus_client", "opentelemetry"):
    sys.modules[extra] = None

import django
django.setup()

import pkgutil
from decimal import Decimal
from importlib import import_module
from django.core.management import call_command

import es_django

call_command("migrate", verbosity=0)

from es_django import outbox
from es_django.models import OutboxMessage
from es_django import ConcurrencyError, StreamId
from es_django.core import instrumentation
from es_django.core.instrumentation import listeners
from es_django.outbox.relay import relay
from es_django.projections import run_projections
from es_django.audit import Audit
from testproject.bank.services import deposit, open_account

assert listeners == []
open_account("acc-1", "Ada")
deposit("acc-1", Decimal(5))
assert run_projections()
assert relay("customers") + relay("ledger")
assert list(Audit().findings()) == []
message = OutboxMessage.objects.first()
assert "traceparent" not in message.headers

optional = {"es_django.monitoring.metrics": "prometheus_client", "es_django.monitoring.tracing": "opentelemetry"}
for module in pkgutil.walk_packages(es_django.__path__, "es_django."):
    try:
        import_module(module.name)
    except ImportError as error:
        assert error.name.startswith(optional[module.name]), error
        del optional[module.name]
assert optional == {}
print("alone")
"""


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of reports, which grows with each report to the only listener."""
    received: list[str] = []

    @contextmanager
    def listener(work: Work) -> Iterator[None]:
        received.append(f"{work.kind.value} {work.subject} begins")
        try:
            yield
        finally:
            received.append(f"{work.outcomes} {work.error!r}")

    monkeypatch.setattr(instrumentation, "listeners", [listener])
    return received


class TestWork:
    def test_items_are_counted_as_done_unless_the_block_sets_outcomes(self, reports: list[str]) -> None:
        with Work(Kind.PROJECT, "balances", 3):
            pass
        with Work(Kind.PUBLISH, "ledger", 3) as work:
            work.outcomes = {"done": 1, "failed": 2}
        assert reports == [
            "project balances begins",
            "{'done': 3} None",
            "publish ledger begins",
            "{'done': 1, 'failed': 2} None",
        ]

    @pytest.mark.parametrize("kind", Kind)
    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (ValueError("no"), "failed"),
            (KeyboardInterrupt(), "failed"),
            (ConcurrencyError(StreamId("a", "b"), 1, 2), "conflict"),
        ],
    )
    def test_work_that_raises_counts_as_the_outcome_of_the_error_and_the_error_propagates(
        self, reports: list[str], kind: Kind, error: BaseException, outcome: str
    ) -> None:
        with pytest.raises(type(error)), Work(kind, size=2):
            raise error
        assert reports[1] == f"{ {outcome: 2} } {error!r}"


class TestWithoutExtras:
    def test_the_package_works_without_extras_and_has_no_listeners(self, tmp_path: object) -> None:
        finished = subprocess.run(
            [sys.executable, "-W", "error::ImportWarning", "-c", ALONE],
            cwd=settings.BASE_DIR,
            env={
                "DJANGO_SETTINGS_MODULE": "testproject.settings",
                "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
                "CELERY_BROKER_URL": "memory://",
                "VAR_DIR": str(tmp_path),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (finished.returncode, finished.stdout) == (0, "alone\n"), finished.stderr
