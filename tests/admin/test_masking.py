"""A user without the permission sees no sensitive value on any page, even of an old or broken event."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from es_django import Aggregate, Event, StreamId, applies, event_store, upcasts
from es_django.admin.json_text import MASK, document
from es_django.models import InboxReceipt, OutboxMessage, ProjectionCheckpoint, Snapshot, StoredEvent, Stream
from tests.admin.builders import checkpoint, list_url, message, notes, page_url, receipt, stored_event, stream_of
from tests.admin.forms import choose, confirm
from tests.admin.pages import Page
from tests.inbox.deliveries import consumer, dead, failing, make_message

SECRET = "DE02-SECRET"
VIEWS = ("view_stream", "view_storedevent", "view_outboxmessage", "view_inboxreceipt", "view_snapshot")

Staff = Callable[..., Client]


class PayeeAdded(Event):
    payee: str
    iban: str
    details: dict[str, Any] = {}

    class Meta:
        name = "tests.admin.payee_added"
        version = 2
        sensitive = {"iban", "account_number"}


@upcasts(PayeeAdded, from_version=1)
def rename_account_number(data: dict[str, Any]) -> dict[str, Any]:
    if data["account_number"] == "rejected":
        raise ValueError(SECRET)
    return {"payee": data["payee"], "iban": data["account_number"]}


class PayeeChanged(PayeeAdded):
    """A class without a Meta of its own."""


class Payees(Aggregate):
    iban: str = ""
    known: dict[str, Any] = {}
    odd: object = None

    class Meta:
        category = "tests.payees"

    @applies
    def _added(self, event: PayeeAdded) -> None:
        self.iban = event.iban
        self.known = {**self.known, event.payee: {"iban": event.iban}}
        self.odd = Odd(event.iban)
        if event.payee == "Mallory":
            raise ValueError(event.iban)


class Odd:
    """A value of a state that JSON cannot represent."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Odd({self.value})"


def stored(data: object, *, type: str = "tests.admin.payee_added", schema_version: int = 2) -> StoredEvent:
    stream = Stream.objects.create(category="tests.payees", key=str(uuid4()), version=1)
    return StoredEvent.objects.create(
        stream=stream,
        version=1,
        type=type,
        schema_version=schema_version,
        data=data,
        metadata={},
        event_id=uuid4(),
        recorded_at=datetime(2020, 1, 1, tzinfo=UTC),
    )


ROWS: dict[str, Callable[[], StoredEvent]] = {
    "of today": lambda: stored({"payee": "Ada", "iban": SECRET, "details": {"iban": [SECRET, {"x": SECRET}]}}),
    "of an older schema": lambda: stored({"payee": "Ada", "account_number": SECRET}, schema_version=1),
    "of a subclass": lambda: stored({"payee": "Ada", "iban": SECRET}, type="PayeeChanged", schema_version=1),
    "of a newer schema": lambda: stored({"payee": "Ada", "iban": SECRET}, schema_version=9),
    "of an unknown type": lambda: stored({"payee": "Ada", "iban": SECRET}, type="tests.admin.gone"),
    "that does not decode": lambda: stored({"payee": 1, "iban": SECRET}),
    "that no upcaster takes": lambda: stored(
        {"payee": "Ada", "account_number": "rejected", "iban": SECRET}, schema_version=1
    ),
    "that cannot be applied": lambda: stored({"payee": "Mallory", "iban": SECRET}),
    "of a megabyte": lambda: stored({"payee": "Ada", "iban": SECRET * 100_000}),
}


def pages(client: Client, event: StoredEvent) -> dict[str, str]:
    urls = [page_url(event), page_url(event.stream), page_url(event.stream).replace("/change/", "/state/")]
    return {url: client.get(url).content.decode() for url in urls}


class TestEventPages:
    @pytest.mark.parametrize("kind", ROWS)
    def test_value_is_masked_on_every_page(self, staff: Staff, kind: str) -> None:
        event = ROWS[kind]()
        for url, html in pages(staff(*VIEWS), event).items():
            assert "SECRET" not in html, url
            assert "payee" in html or "/state/" in url

    def test_user_with_the_permission_sees_the_value(self, staff: Staff) -> None:
        event = ROWS["of today"]()
        for url, html in pages(staff(*VIEWS, "view_sensitive_data"), event).items():
            assert SECRET in html, url
            assert MASK not in html

    def test_values_beside_a_masked_one_stay_readable(self, staff: Staff) -> None:
        page = Page(staff(*VIEWS).get(page_url(ROWS["of today"]())).content.decode())
        payload = page.all("pre")[0]
        assert sorted(each.strip(" ,{}") for each in payload.raw_text.split("\n") if '"' in each) == [
            '"details":',
            f'"iban": {MASK}',
            f'"iban": {MASK}',
            '"payee": "Ada"',
        ]
        assert len(payload.all("span.es-masked")) == 2

    def test_field_with_the_same_name_in_another_event_type_is_not_masked(self, staff: Staff) -> None:
        class Announced(Event):
            iban: str

            class Meta:
                name = "tests.admin.announced"

        event = stored({"iban": "everybody knows"}, type="tests.admin.announced", schema_version=1)
        assert "everybody knows" in staff(*VIEWS).get(page_url(event)).content.decode()

    def test_user_in_metadata_is_masked(self, staff: Staff) -> None:
        class LoggedIn(Event):
            user: str

            class Meta:
                name = "tests.admin.logged_in"
                sensitive = {"user"}

        event_store.append(
            StreamId("tests.logins", "1"), [LoggedIn(user=SECRET)], expected=0, metadata={"user": SECRET}
        )
        html = staff(*VIEWS).get(page_url(Stream.objects.get(key="1"))).content.decode()
        assert "SECRET" not in html
        assert html.count(MASK) == 2


class TestDerivedValues:
    def test_messages_and_snapshots_are_masked(self, staff: Staff) -> None:
        event_store.append(StreamId("tests.payees", "1"), [PayeeAdded(payee="Ada", iban=SECRET)], expected=0)
        data = {"announced": [{"iban": SECRET}]}
        snapshot = Snapshot.objects.create(
            stream=Stream.objects.get(key="1"), version=1, schema="x", state=json.dumps({"known": data, "iban": SECRET})
        )
        client = staff(*VIEWS)
        for row in (
            message("dead", data=data, headers={"iban": SECRET}),
            receipt(status="dead", message=data),
            snapshot,
        ):
            html = client.get(page_url(row)).content.decode()
            assert "SECRET" not in html, row
            assert MASK in html

    def test_state_is_masked_by_field_and_key_names(self, staff: Staff) -> None:
        event = ROWS["of today"]()
        page = Page(staff(*VIEWS).get(page_url(event.stream).replace("/change/", "/state/")).content.decode())
        rows = page.one("table.es-state").one("tbody").all("tr")
        values = {row.one("th").text.removesuffix(" changed"): row.all("td")[0].text for row in rows}
        assert values == {"iban": MASK, "known": f'{{ "Ada": {{ "iban": {MASK} }} }}', "odd": "Odd"}


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "shown"),
        [
            (f"ValueError: no {SECRET}", "ValueError: the message is hidden"),
            (f"ValueError('{SECRET}: no')", "ValueError: the message is hidden"),
            (f"{SECRET}: no such account", "Error: the message is hidden"),
            (f"the account {SECRET} is closed", "Error: the message is hidden"),
        ],
    )
    def test_only_the_class_of_an_error_is_shown(self, staff: Staff, settings: Any, error: str, shown: str) -> None:
        settings.ES_DJANGO = {"DESTINATIONS": {"ledger": {"PUBLISHER": "tests.publishers.Recorder"}}}
        notes()
        message("dead", last_error=error, stream=stream_of(), stream_version=1)
        receipt(status="dead", message={}, last_error=error)
        checkpoint(name="statements", status="failed", failed_position=1, last_error=error)
        operations = ("requeue_outboxmessage", "operate_projectioncheckpoint", "view_projectioncheckpoint")
        client = staff(*VIEWS, *operations)

        def texts() -> Iterator[str]:
            yield client.get(reverse("admin:app_list", args=["es_django"])).content.decode()
            yield client.get(page_url(stored_event(1))).content.decode()
            for model in (OutboxMessage, InboxReceipt, ProjectionCheckpoint):
                yield client.get(list_url(model)).content.decode()
                yield client.get(page_url(model.objects.get())).content.decode()
            yield choose(client, "requeue", OutboxMessage.objects.get()).content.decode()

        for html in texts():
            assert "SECRET" not in html
            assert shown in html
        User.objects.get(username="staff").user_permissions.add(Permission.objects.get(codename="view_sensitive_data"))
        for html in texts():
            assert "SECRET" in html

    def test_error_of_a_replay_is_masked_and_not_logged(self, staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("es_django.inbox.handlers._handlers", {})
        row = dead(make_message())
        consumer("mailer", failing(ValueError(SECRET)))
        client = staff("view_inboxreceipt", "replay_inboxreceipt")
        (shown, _) = confirm(client, "replay_selected", row)
        assert (
            shown
            == f"Message {row} failed again: ValueError: the message is hidden because it may quote sensitive values."
        )
        assert LogEntry.objects.get().change_message == "Replayed: failed again"


class TestText:
    @pytest.mark.parametrize("length", range(60))
    def test_truncated_value_is_masked(self, length: int) -> None:
        text = json.dumps({"a": {"iban": {"x": [SECRET]}, "b": 1}, "\u0069ban": SECRET})
        html = document("", text[:length], len(text), 1_000, {"iban"}).html
        assert "SEC" not in html
        assert "DE02" not in html

    def test_value_of_an_escaped_key_is_masked(self) -> None:
        text = '{"\\u0069b\\u0061n": "SECRET", "b": 1}'
        shown = Page(document("", text, len(text), 1_000, {"iban"}).html).raw_text
        assert "SECRET" not in shown
        assert '"b": 1' in shown
