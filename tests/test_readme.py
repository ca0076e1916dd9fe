"""The README's code works as printed, in a new project."""

import re
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import msgspec
import pytest
from django.conf import settings

from es_django.conf import OutboxSettings
from es_django.outbox.publishers import Publisher
from tests.readme import README, write_project

TRY = """
import django
django.setup()
from celery import Celery
from django.core.management import call_command

Celery(broker="memory://").set_default()
call_command("check", fail_level="WARNING")
call_command("migrate", run_syncdb=True, verbosity=0)

from es_django.models import OutboxMessage
from es_django.messages.message import Message
from es_django.tasks import handle_message
from ledger.models import Entry
from shop.models import Due
from shop.services import orders, place, settle

place("order-1", "Ada", 30)
assert Due.objects.get().amount == 30
settle("order-1")
assert (orders.get("order-1").due, Due.objects.get().amount) == (0, 0)
message = OutboxMessage.objects.get()
assert (message.type, message.data) == ("OrderPaid", {"order": "order-1", "amount": 30})
handle_message({"type": message.type, "data": message.data, "message_id": str(message.message_id)})
assert Entry.objects.get().amount == 30

from es_django.projections import run_projections, wait_for
from ledger.models import Turnover

run_projections()
wait_for("turnovers", timeout=2)
assert Turnover.objects.get().amount == 30
call_command("es_rebuild", "turnovers")
call_command("es_status")
call_command("es_verify")
assert Turnover.objects.get().amount == 30

import json
from datetime import UTC, datetime
from django.conf import settings
from django.test import Client
from standardwebhooks import Webhook

now = datetime.now(UTC)
event = {"specversion": "1.0", "id": "1", "source": "/till", "type": "OrderPaid", "data": {"order": "2", "amount": 5}}
body = json.dumps(event)
(secret,) = settings.ES_DJANGO["INGRESS"]["SECRETS"]
headers = {
    "webhook-id": "1",
    "webhook-timestamp": str(int(now.timestamp())),
    "webhook-signature": Webhook(secret).sign("1", now, body),
}
for _ in range(2):
    response = Client().post("/events/", body, content_type="application/cloudevents+json", headers=headers)
    assert response.status_code == 204, response.content
assert Entry.objects.filter(order="2").count() == 1

from django.core import mail
from es_django.outbox import send
from es_django.outbox.relay import relay

send("mail", type="hello", data="Ada")
assert relay("mail") == 1
assert [(sent.subject, sent.body, sent.to) for sent in mail.outbox] == [("hello", "Ada", ["ada@example.com"])]
"""


class TestReadme:
    def test_each_publisher_is_listed_with_its_options(self) -> None:
        listed = {
            name: re.findall(r"`(\w+)`", options)
            for name, options in re.findall(r"^\| `(\w+\.\w+Publisher)` \|([^|]*)\|", README.read_text(), re.MULTILINE)
        }
        folder = settings.BASE_DIR / "es_django" / "outbox" / "publishers"
        shipped = {
            f"{module.stem}.{name}": value
            for module in folder.glob("[!_]*.py")
            for name, value in vars(import_module(f"es_django.outbox.publishers.{module.stem}")).items()
            if isinstance(value, type) and issubclass(value, Publisher) and value.__module__.endswith(f".{module.stem}")
        }
        assert listed.keys() == shipped.keys()
        for name, publisher in shipped.items():
            assert sorted(listed[name]) == sorted(signature(publisher).parameters)

    @pytest.mark.slow
    def test_code_runs_as_printed(self, tmp_path: Path) -> None:
        files = write_project(tmp_path)
        assert len(files) == 15
        compile(files["settings.py"], "settings.py", "exec")
        (tmp_path / "try.py").write_text(TRY)
        for command in (["try.py"], ["-m", "pytest", "-p", "no:cacheprovider", "shop/test_orders.py"]):
            run = subprocess.run(
                [sys.executable, *command],
                cwd=tmp_path,
                env={"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{tmp_path}:{settings.BASE_DIR}"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert run.returncode == 0, run.stdout + run.stderr
        assert "3 passed" in run.stdout

    def test_outbox_defaults_match_the_code(self) -> None:
        (printed,) = re.findall(r'^({"BATCH_SIZE.*?})\n```', README.read_text(), re.MULTILINE | re.DOTALL)
        limits = msgspec.json.decode(printed)
        assert msgspec.convert(limits, type=OutboxSettings) == OutboxSettings()
        assert set(limits) == {name.upper() for name in OutboxSettings.__struct_fields__}
