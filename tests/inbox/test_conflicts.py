"""Other content under a message id that was handled before is refused, and kept for the operator."""

import json
from typing import Any

import msgspec
import pytest
from pytest_django import Settings

from es_django import Message
from es_django.inbox.delivery import receive
from es_django.inbox.receipts import Outcome, dead_letter, handle_once
from es_django.inbox.replay import replay
from es_django.messages.cloudevents import message_id_of
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.monitoring import health
from tests.inbox.deliveries import consumer, dead, effects, failing, have_an_effect, make_message
from tests.inbox.sender import BATCH, SECRET, fields, post, send, send_batch, send_binary

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.inbox.urls")]

UUID_TEXT = "0197f9a0-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _configured(settings: Settings) -> None:
    settings.ES_DJANGO = {"INGRESS": {"SECRETS": [SECRET]}}


def kept() -> list[tuple[str, str, Any]]:
    """Return the consumer, status and data of each refused message."""
    found = InboxReceipt.objects.exclude(conflict="").order_by("id")
    return [(each.consumer, each.status, each.message and each.message["data"]) for each in found]


class TestOtherContent:
    @pytest.mark.parametrize("send_it", [send, send_binary, lambda **changes: send_batch(fields(**changes))])
    @pytest.mark.parametrize("given_id", ["17", UUID_TEXT])
    def test_fault_a15_other_data_is_answered_with_409_and_kept(self, send_it: Any, given_id: str) -> None:
        consumer("mailer")
        assert send_it(id=given_id).status_code == 204
        for _ in range(2):
            response = send_it(id=given_id, data={"number": 2})
            assert response.status_code == 409
            assert "other content" in response.content.decode()
        assert kept() == [("mailer", "dead", {"number": 2})]
        assert effects() == 1
        assert "1 inbox message is dead" in health.status().problems
        assert send_it(id=given_id).status_code == 204

    @pytest.mark.parametrize(
        "change", [{"subject": "s"}, {"partitionkey": "k"}, {"dataschema": "/v2"}, {"tenant": "b"}]
    )
    def test_fault_a15_other_attributes_are_other_content(self, change: dict[str, str]) -> None:
        consumer("mailer")
        assert send().status_code == 204
        assert send(**change).status_code == 409

    def test_fault_a15_another_type_is_other_content_even_if_another_consumer_handles_it(self) -> None:
        consumer("mailer")
        consumer("ledger", type="tests.other")
        assert send().status_code == 204
        assert send(type="tests.other").status_code == 409
        assert (kept(), effects()) == ([("ledger", "dead", {"number": 1})], 1)

    def test_fault_a15_a_repeat_in_another_form_is_a_repeat(self) -> None:
        consumer("mailer")
        assert send(data={"a": 1, "b": [1.0]}, time="2026-01-02T03:04:05Z", traceparent="00-1").status_code == 204
        again = fields(data={"b": [1], "a": 1}, time="2026-01-02T03:05:00Z", traceparent="00-2")
        assert post(json.dumps(again, indent=4)).status_code == 204
        assert (kept(), effects()) == ([], 1)

    def test_fault_a15_content_that_differs_from_a_dead_message_is_refused(self) -> None:
        consumer("mailer", failing(ValueError("a bug")))
        assert send().status_code == 422
        assert send(data={"number": 2}).status_code == 409
        assert send().status_code == 422

    def test_fault_a15_two_contents_in_one_batch(self) -> None:
        consumer("mailer")
        assert send_batch(fields(), fields(data={"number": 2}), fields(id="18")).status_code == 409
        assert (kept(), effects()) == ([("mailer", "dead", {"number": 2})], 2)

    def test_fault_a15_a_message_that_a_failed_handler_lost_to_other_content_is_kept(self) -> None:
        one = make_message()
        assert handle_once("mailer", one, have_an_effect) is Outcome.HANDLED
        other = msgspec.structs.replace(one, data={"number": 2})
        assert dead_letter("mailer", other, ValueError("a bug"), attempt=1) is Outcome.CONFLICT
        assert kept() == [("mailer", "dead", {"number": 2})]

    def test_fault_a15_a_refused_message_can_be_replayed_and_is_then_a_repeat(self) -> None:
        seen = list[Message]()
        consumer("mailer", seen.append)
        send()
        assert send(data={"number": 2}).status_code == 409
        refused = InboxReceipt.objects.exclude(conflict="").get()
        replay("mailer", refused.message_id, conflict=refused.conflict)
        assert [message.data for message in seen] == [{"number": 1}, {"number": 2}]
        assert send(data={"number": 2}).status_code == 204
        assert len(seen) == 2


class TestSources:
    @pytest.mark.parametrize("given_id", ["17", UUID_TEXT])
    def test_fault_e6_the_same_id_from_another_source_is_another_event(self, given_id: str) -> None:
        seen = list[Message]()
        consumer("mailer", seen.append)
        for source in ("/shop", "/bank", "/shop"):
            assert send(id=given_id, source=source).status_code == 204
        assert [(message.headers["source"], message.headers["id"]) for message in seen] == [
            ("/shop", given_id),
            ("/bank", given_id),
        ]
        assert {message.message_id for message in seen} == {
            message_id_of(source, given_id) for source in ("/shop", "/bank")
        }

    def test_fault_e6_sources_are_told_apart_in_one_batch_and_in_replays(self) -> None:
        consumer("mailer", failing(ValueError("a bug")))
        assert post(json.dumps([fields(id=UUID_TEXT, source=each) for each in ("/a", "/b")]), BATCH).status_code == 422
        consumer("mailer")
        replay("mailer", message_id_of("/a", UUID_TEXT))
        statuses = {each.message_id: each.status for each in InboxReceipt.objects.all()}
        assert statuses == {
            str(message_id_of("/a", UUID_TEXT)): "handled",
            str(message_id_of("/b", UUID_TEXT)): "dead",
        }

    def test_fault_e6_a_message_of_the_outbox_is_not_the_event_of_a_sender_with_the_same_id(self) -> None:
        consumer("mailer")
        own = make_message()
        dead(own, "another consumer")
        assert send(id=str(own.message_id), source="/shop").status_code == 204


class TestDeliveries:
    def test_fault_a15_other_content_of_a_broker_is_kept_while_its_id_waits_for_a_retry(self) -> None:
        consumer("mailer", failing(TimeoutError("later")))
        one = make_message()
        other = msgspec.structs.replace(one, data={"number": 2})
        assert receive(to_wire(one)) is Outcome.POSTPONED
        assert receive(to_wire(other)) is Outcome.CONFLICT
        assert receive(to_wire(other)) is Outcome.CONFLICT
        assert kept() == [("mailer", "dead", {"number": 2})]
        assert InboxReceipt.objects.get(conflict="").status == "retrying"

    def test_fault_a15_other_content_without_a_handler_is_kept(self) -> None:
        one = make_message()
        assert receive(to_wire(one)) is Outcome.POSTPONED
        assert receive(to_wire(msgspec.structs.replace(one, data={"number": 2}))) is Outcome.CONFLICT
        assert [data for _, _, data in kept()] == [{"number": 2}]
