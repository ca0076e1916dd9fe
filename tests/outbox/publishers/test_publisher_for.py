"""`publisher_for` returns the publisher of a destination, and rejects invalid options."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from es_django.errors import UnknownDestination
from es_django.outbox.publishers import Publisher, publisher_for
from es_django.outbox.publishers.memory import MemoryPublisher
from tests.outbox.publishers.messages import news

SHIPPED = "es_django.outbox.publishers"
SECRET = "whsec_czNjcmV0czNjcmV0czNjcmV0czNjcmV0"
KOMBU, REDIS = f"{SHIPPED}.kombu.KombuPublisher", f"{SHIPPED}.redis.RedisPublisher"
WEBHOOK, NATS = f"{SHIPPED}.webhook.WebhookPublisher", f"{SHIPPED}.nats.NatsPublisher"
GOOD: dict[str, dict[str, Any]] = {
    KOMBU: {"url": "amqp://localhost"},
    REDIS: {"url": "redis://localhost", "queue": "q"},
    WEBHOOK: {"url": "https://hooks.example", "secret": SECRET},
    NATS: {"url": "nats://localhost"},
    f"{SHIPPED}.celery.CeleryPublisher": {},
    f"{SHIPPED}.memory.MemoryPublisher": {},
}
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (KOMBU, {"url": "redis://localhost"}, "must start with amqp://"),
    (KOMBU, {"url": "memory://"}, "must start with amqp://"),
    (KOMBU, {"url": "nonsense://localhost"}, "must be the URL of a broker"),
    (KOMBU, {"url": "amqp://guest:s3/cret@localhost"}, "percent-encode characters such as"),
    (KOMBU, {"url": 5}, "must be the URL of a broker"),
    (KOMBU, {}, "url"),
    (KOMBU, {"url": "amqp://localhost", "format": "xml"}, "'cloudevents' or 'json', not 'xml'"),
    (REDIS, {"url": "amqp://localhost", "queue": "q"}, "must start with redis://"),
    (REDIS, {"url": "redis://localhost"}, "queue"),
    (WEBHOOK, {"url": "https://hooks.example"}, "secret"),
    (WEBHOOK, {"url": "hooks.example", "secret": SECRET}, "https://"),
    (WEBHOOK, {"url": "https://hooks.example", "secret": "s3cret!"}, "base64"),
    (NATS, {"url": "nats://localhost", "prefix": "shop.>"}, "prefix"),
    (NATS, {"url": "ftp://user:s3cret@localhost"}, "nats://"),
    (NATS, {"url": []}, "nats://"),
    (SHIPPED + ".kombu.Nothing", {}, "Nothing"),
    ("es_django.Event", {}, "is not a Publisher"),
]


def use(settings: Settings, publisher: str, options: dict[str, Any]) -> None:
    settings.ES_DJANGO = {"DESTINATIONS": {"tests": {"PUBLISHER": publisher, "OPTIONS": options}}}


class TestPublisherFor:
    @pytest.mark.parametrize("publisher", GOOD)
    def test_a_publisher_is_created_once_and_does_not_connect_yet(self, settings: Settings, publisher: str) -> None:
        use(settings, publisher, GOOD[publisher])
        made = publisher_for("tests")
        assert isinstance(made, Publisher)
        assert publisher_for("tests") is made

    def test_an_unconfigured_destination_is_rejected(self, settings: Settings) -> None:
        use(settings, f"{SHIPPED}.memory.MemoryPublisher", {})
        with pytest.raises(UnknownDestination, match="'other'"):
            publisher_for("other")

    def test_a_changed_setting_creates_a_new_publisher(self, settings: Settings) -> None:
        use(settings, f"{SHIPPED}.memory.MemoryPublisher", {})
        made = publisher_for("tests")
        assert isinstance(made, MemoryPublisher)
        made.publish(news(1))
        use(settings, f"{SHIPPED}.memory.MemoryPublisher", {})
        other = publisher_for("tests")
        assert isinstance(other, MemoryPublisher)
        assert not other.published


class TestInvalidOptions:
    @pytest.mark.parametrize("publisher", GOOD)
    def test_an_unknown_option_is_named(self, settings: Settings, publisher: str) -> None:
        use(settings, publisher, {**GOOD[publisher], "colour": "red"})
        with pytest.raises(ImproperlyConfigured, match=r'ES_DJANGO\["DESTINATIONS"\]\["tests"\].*colour'):
            publisher_for("tests")

    @pytest.mark.parametrize(("publisher", "options", "expected"), WRONG)
    def test_an_invalid_option_is_named_and_no_secret_is_shown(
        self, settings: Settings, publisher: str, options: dict[str, Any], expected: str
    ) -> None:
        use(settings, publisher, options)
        with pytest.raises(ImproperlyConfigured) as refused:
            publisher_for("tests")
        assert expected in str(refused.value)
        assert "s3" not in str(refused.value)


class TestExtras:
    @pytest.mark.parametrize(
        ("publisher", "package", "extra"),
        [
            (REDIS, "redis", "redis"),
            (WEBHOOK, "httpcore", "webhooks"),
            (WEBHOOK, "standardwebhooks", "webhooks"),
            (NATS, "nats", "nats"),
        ],
    )
    def test_a_missing_extra_is_named(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, publisher: str, package: str, extra: str
    ) -> None:
        importers = f"{SHIPPED}.", "es_django.messages.signatures"
        for name in [name for name in sys.modules if name.split(".")[0] == package or name.startswith(importers)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        use(settings, publisher, GOOD[publisher])
        with pytest.raises(ImproperlyConfigured, match=rf'{package} cannot be used.*"es-django\[{extra}\]"'):
            publisher_for("tests")

    def test_the_package_needs_no_extra(self, tmp_path: Path) -> None:
        program = """
import sys
for package in ("httpcore", "nats", "redis", "psycopg"):
    sys.modules[package] = None
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["es_django"], USE_TZ=True)
django.setup()
import es_django.tasks, es_django.outbox.publishers.celery, es_django.outbox.publishers.kombu
import es_django.outbox.publishers.memory
"""
        completed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=django_settings.BASE_DIR,
            env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert completed.returncode == 0, completed.stderr
