"""Each misconfiguration has a system check with an id and a hint."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.models import Model
from pytest_django import Settings

from es_django import Aggregate, Projection, conf, outbox, projects, tasks
from es_django.checks import check_events, check_open_messages, check_projections, check_settings
from es_django.core.aggregates import categories
from es_django.core.events import Event
from es_django.core.registry import registry
from es_django.core.upcasting import upcasts
from es_django.environment_checks import check_logging
from es_django.errors import PublishError
from es_django.outbox.backends import outbox_store
from es_django.outbox.port import Settlement
from es_django.outbox.publishers import publisher_for
from es_django.projections.emptying import blocking_foreign_keys
from testproject.bank.models import Balance
from tests.inbox.sender import SECRET
from tests.outbox import published
from tests.publishers import Recorder


def ids() -> set[str]:
    found = [*check_settings(), *check_events(), *check_projections()]
    assert all(message.hint for message in found)
    return {str(message.id) for message in found}


INFINITE = float("inf")
GOOD = {"DESTINATIONS": {"tests": {"PUBLISHER": "tests.publishers.Recorder"}}}


@pytest.fixture(autouse=True)
def _only_what_a_test_adds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ES_DJANGO = GOOD
    monkeypatch.setattr("es_django.checks.publications", [(published.Announced, "tests", published.announce)])
    monkeypatch.setattr(registry, "_by_class", {})
    monkeypatch.setattr(registry, "_by_name", {})
    monkeypatch.setattr(categories, "_claims", {})


def own(model: type[Model], name: str) -> None:
    def moved(self: Projection, event: Event, recorded: object) -> None: ...

    meta = type("Meta", (), {"name": f"tests.{name}", "models": [model]})
    moved.__annotations__["event"] = type(
        f"{name}Moved", (Event,), {"Meta": type("Meta", (), {"name": f"{name}.moved"})}
    )
    type(name, (Projection,), {"Meta": meta, "moved": projects(moved)})


class TestSettings:
    def test_valid_settings_have_no_finding(self) -> None:
        assert ids() == set()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"DESTINATION": {}},
            {"OUTBOX": {"LEASE": 0}},
            {"OUTBOX": {"LEASE": INFINITE}},
            {"OUTBOX": {"RETENTION_DAYS": 1_000_000}},
            {"OUTBOX": {"RETENTION_DAYS": INFINITE}},
            {"INBOX": {"RETENTION_DAYS": 1_000_000}},
            {"INBOX": {"RETENTION_DAYS": INFINITE}},
            {"OUTBOX": {"BACKOFF": {"base": INFINITE}}},
            {"OUTBOX": {"BACKOFF": {"max": INFINITE}}},
            {"OUTBOX": {"BACKOFF": {"factor": 1e9}}},
            {"OUTBOX": {"BATCH_SIZE": 2**63}},
            {"OUTBOX": {"BATCH_SIZE": "many"}},
            {"OUTBOX": {"BACKOFF": {"factor": 0.5}}},
            {"PROJECTIONS": {"BATCHSIZE": 5}},
            {"DESTINATIONS": {"tests": {}}},
        ],
    )
    def test_invalid_settings_are_reported_and_raise(self, wrong: dict[str, Any], settings: Settings) -> None:
        settings.ES_DJANGO = {**GOOD, **wrong}
        assert ids() == {"es_django.E001"}
        with pytest.raises(ImproperlyConfigured, match="ES_DJANGO"):
            conf.settings()

    @pytest.mark.django_db(transaction=True)
    def test_the_longest_valid_times_can_be_stored(self, settings: Settings, recorder: object) -> None:
        year, century = 365 * 24 * 3600, 36_500
        backoff = {"base": year, "max": year, "factor": 1000}
        settings.ES_DJANGO = {
            **GOOD,
            "OUTBOX": {"LEASE": year, "RETENTION_DAYS": century, "BACKOFF": backoff},
            "INBOX": {"RETENTION_DAYS": century},
        }
        assert ids() == set()
        outbox.send("tests", type="noted", data=None)
        (claim,) = outbox_store().claim("tests", "a", limit=1, lease=conf.settings().outbox.lease)
        assert outbox_store().settle("a", [Settlement(claim, PublishError("down"))]) == [None]
        assert conf.settings().outbox.backoff.after(100) == year
        tasks.prune()


class TestDatabase:
    def test_a_missing_database_is_reported(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**GOOD, "DATABASE": "elsewhere"}
        assert ids() == {"es_django.E002"}

    def test_an_unsupported_database_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections["default"], "vendor", "oracle")
        assert ids() == {"es_django.E003"}

    def test_sqlite_without_immediate_transactions_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections["default"], "vendor", "sqlite")
        monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})
        assert ids() == {"es_django.E004"}

    def test_times_without_a_time_zone_are_reported(self, settings: Settings) -> None:
        settings.USE_TZ = False
        assert ids() == {"es_django.E009"}


class TestDestinations:
    @pytest.mark.parametrize(
        "destination",
        [
            {"PUBLISHER": "tests.publishers.Missing"},
            {"PUBLISHER": "tests.domain.Ledger", "OPTIONS": {"key": "k"}},
            {"PUBLISHER": "tests.publishers.Recorder", "OPTIONS": {"colour": "red"}},
        ],
    )
    def test_a_publisher_that_cannot_be_created_is_reported(
        self, destination: dict[str, Any], settings: Settings
    ) -> None:
        settings.ES_DJANGO = {"DESTINATIONS": {"tests": destination}}
        assert ids() == {"es_django.E005"}
        with pytest.raises(ImproperlyConfigured, match="tests"):
            publisher_for("tests")

    def test_a_publication_to_an_unknown_destination_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("es_django.checks.publications", [(published.Announced, "nowhere", published.announce)])
        assert ids() == {"es_django.E006"}

    @pytest.mark.django_db
    def test_open_messages_to_a_removed_destination_are_reported(
        self, settings: Settings, recorder: type[Recorder]
    ) -> None:
        outbox.send("tests", type="noted", data=None)
        assert check_open_messages(["default"]) == []
        settings.ES_DJANGO = {}
        (warning,) = check_open_messages(["default"])
        assert (warning.id, "'tests'" in warning.msg) == ("es_django.W001", True)
        assert check_open_messages(["other"]) == check_open_messages(None) == []


class TestIngress:
    @pytest.mark.parametrize(
        "secret",
        ["", "hunter2", "whsec_", "whsec_hunter2", "whsec_" + "aHVudGVyMg" * 4 + "!", "whsec_" + "hunter2a" * 12],
    )
    def test_an_invalid_secret_is_reported_and_not_shown(self, secret: str, settings: Settings) -> None:
        settings.ES_DJANGO = {**GOOD, "INGRESS": {"SECRETS": [SECRET, secret]}}
        assert ids() == {"es_django.E012"}
        (message,) = check_settings()
        assert '["SECRETS"][1]' in message.msg
        assert "hunter2" not in f"{message}{conf.settings()!r}"

    @pytest.mark.parametrize(
        "wrong", [{"SECRETS": "hunter2"}, {"SECRETS": [7]}, {"SECRETS": [b"hunter2"]}, {"MAX_BYTES": 0}]
    )
    def test_invalid_settings_are_reported_and_not_shown(self, wrong: dict[str, Any], settings: Settings) -> None:
        settings.ES_DJANGO = {**GOOD, "INGRESS": wrong}
        assert ids() == {"es_django.E001"}
        assert "hunter2" not in str(check_settings())

    @pytest.mark.urls("tests.inbox.urls")
    def test_an_ingress_without_a_secret_is_reported(self, settings: Settings) -> None:
        assert ids() == {"es_django.W013"}
        settings.ES_DJANGO = {**GOOD, "INGRESS": {"SECRETS": [SECRET]}}
        assert ids() == set()

    def test_a_project_without_urls_has_no_finding(self, settings: Settings) -> None:
        del settings.ROOT_URLCONF
        assert ids() == set()


class TestEvents:
    def test_two_event_classes_with_the_same_name_are_reported(self) -> None:
        for name in ("One", "Two"):
            type(name, (Event,), {"Meta": type("Meta", (), {"name": "tests.same"}), "__qualname__": name})
        assert ids() == {"es_django.E007"}

    def test_two_aggregate_classes_with_the_same_category_are_reported(self) -> None:
        type("Alone", (Aggregate,), {})
        for name in ("One", "Two"):
            type(name, (Aggregate,), {"Meta": type("Meta", (), {"category": "same"}), "__qualname__": name})
        assert ids() == {"es_django.E010"}

    def test_a_missing_upcaster_is_reported(self) -> None:
        type("Newer", (Event,), {"Meta": type("Meta", (), {"name": "tests.newer", "version": 3})})
        assert ids() == {"es_django.E008"}

    def test_an_unknown_sensitive_field_is_reported(self) -> None:
        options = {"name": "tests.payee", "sensitive": {"ibann"}}
        type("Payee", (Event,), {"__annotations__": {"iban": str}, "Meta": type("Meta", (), options)})
        assert ids() == {"es_django.E030"}

    def test_a_sensitive_field_of_an_older_schema_passes(self) -> None:
        options = {"name": "tests.payee", "sensitive": {"account"}, "version": 2}
        payee = type("Payee", (Event,), {"__annotations__": {"iban": str}, "Meta": type("Meta", (), options)})
        upcasts(payee, from_version=1)(lambda data: data)
        assert ids() == set()


class TestProjections:
    def test_two_projections_with_the_same_model_are_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("es_django.projections.base._registered", {})
        monkeypatch.setattr("es_django.projections.base.inline_projections", [])
        own(Balance, "First")
        assert ids() == set()
        own(Balance, "Second")
        assert ids() == {"es_django.E020"}

    @pytest.mark.parametrize(
        ("model", "expected"),
        [(ContentType, "auth.Permission.content_type"), (Permission, "auth.User_user_permissions.permission")],
    )
    def test_foreign_keys_to_rows_that_a_rebuild_deletes_are_reported(
        self, model: type[Model], expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("es_django.projections.base._registered", {})
        own(model, "Foreign")
        assert ids() == {"es_django.E023"}
        assert expected in " ".join(message.msg for message in check_projections())
        assert "auth.Permission.content_type" not in blocking_foreign_keys([ContentType, Permission])

    def test_a_read_model_in_another_database_than_the_events_is_reported(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(router, "db_for_write", lambda model: "elsewhere" if model is Balance else "default")
        assert ids() == {"es_django.E021"}


class TestLogging:
    @pytest.mark.parametrize(
        ("logging", "is_named"),
        [
            ({}, False),
            ({"version": 1, "disable_existing_loggers": False}, False),
            ({"version": 1, "incremental": True}, False),
            ({"version": 1, "loggers": {"es_django": {"level": "INFO"}}}, False),
            ({"version": 1}, True),
            ({"version": 1, "disable_existing_loggers": True, "loggers": {"es_django.outbox": {}}}, True),
        ],
    )
    def test_fault_f1_logging_that_disables_loggers_is_named(
        self, settings: Settings, logging: dict[str, Any], is_named: bool
    ) -> None:
        settings.LOGGING = logging
        assert [message.id for message in check_logging()] == (["es_django.W015"] if is_named else [])


class TestSampleProject:
    @pytest.mark.django_db  # Django 6.1 runs a query to find out whether SQLite supports JSON
    def test_the_sample_project_passes_all_checks(self) -> None:
        assert [message for message in run_checks() if str(message.id).startswith("es_django")] == []


class TestAtomicRequests:
    @pytest.mark.parametrize("atomic_requests", [False, True])
    def test_fault_b6_atomic_requests_are_a_warning_that_names_the_remedy(
        self, atomic_requests: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)
        found = [message for message in check_settings() if message.id == "es_django.W060"]
        assert [("non_atomic_requests" in (message.hint or "")) for message in found] == [True] * atomic_requests
