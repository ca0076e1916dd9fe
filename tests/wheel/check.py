"""Check that the built wheel is complete and works. Run this in an environment with only the wheel installed."""

import os
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

SETTINGS = """
SECRET_KEY = "wheel"
INSTALLED_APPS = ["django.contrib.contenttypes", "es_django", "shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": __file__ + ".sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}
"""
EVENTS = """
from es_django import Event


class OrderPlaced(Event):
    total: int
"""


def check_contents() -> None:
    names = [str(file) for file in files("es-django") or ()]
    foreign = [name for name in names if not name.startswith(("es_django/", "es_django-"))]
    assert not foreign, f"the wheel installs more than es_django: {foreign}"
    for part in ("py.typed", "migrations/0001_", "templates/es_django/", "static/es_django/"):
        assert any(name.startswith(f"es_django/{part}") for name in names), f"the wheel lacks es_django/{part}"


def check_project(folder: Path) -> None:
    (folder / "settings.py").write_text(SETTINGS)
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "events.py").write_text(EVENTS)
    sys.path.insert(0, str(folder))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

    import django
    from django.core.management import call_command

    django.setup()
    call_command("check", fail_level="WARNING")
    call_command("migrate", verbosity=0)

    from shop.events import OrderPlaced  # type: ignore[import-not-found]

    from es_django import NO_STREAM, StreamId, event_store

    stream = StreamId("order", "order-1")
    event_store.append(stream, [OrderPlaced(total=42)], expected=NO_STREAM)
    (recorded,) = event_store.read_stream(stream)
    assert recorded.event == OrderPlaced(total=42)
    assert recorded.version == 1

    from es_django.core.instrumentation import listeners

    assert listeners == [], "metrics or spans without their extras"
    call_command("es_verify")


def check_missing_extras() -> None:
    from django.core.exceptions import ImproperlyConfigured
    from django.test.utils import override_settings

    from es_django.outbox.publishers import publisher_for

    for path, extra in (("redis.Redis", "redis"), ("webhook.Webhook", "webhooks"), ("nats.Nats", "nats")):
        destination = {"PUBLISHER": f"es_django.outbox.publishers.{path}Publisher"}
        with override_settings(ES_DJANGO={"DESTINATIONS": {"elsewhere": destination}}):
            message = ""
            try:
                publisher_for("elsewhere")
            except ImproperlyConfigured as error:
                message = str(error)
            assert f"es-django[{extra}]" in message, message or f"{path}Publisher works without the extra {extra}"


if __name__ == "__main__":
    check_contents()
    with tempfile.TemporaryDirectory() as folder:
        check_project(Path(folder))
        check_missing_extras()
    print("The wheel is complete, and an event was stored and read.")
