"""A dead message can be replayed, and takes effect once."""

from multiprocessing.synchronize import Barrier
from uuid import uuid4

import pytest
from pytest_django import Settings

from es_django import Message, handles
from es_django.errors import NotReplayable
from es_django.inbox.delivery import receive
from es_django.inbox.handlers import UNHANDLED
from es_django.inbox.receipts import handle_once
from es_django.inbox.replay import replay
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from tests.inbox.deliveries import TYPE, consumer, dead, effects, failing, have_an_effect, make_message, receipts
from tests.processes import run_processes

pytestmark = pytest.mark.django_db(transaction=True)


def replay_at_once(barrier: Barrier, message: Message) -> str:
    handles(TYPE, consumer="mailer")(have_an_effect)
    barrier.wait()
    try:
        replay("mailer", message.message_id)
    except NotReplayable as error:
        return error.reason
    return "replayed"


class TestReplay:
    def test_a_dead_message_is_handled(self) -> None:
        message, seen = make_message(key="k", data=[1]), list[Message]()
        dead(message)
        consumer("mailer", seen.append)
        replay("mailer", message.message_id)
        assert seen == [message]
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.attempts, receipt.last_error, receipt.message) == ("handled", 4, "", None)

    def test_a_message_that_jsonb_cannot_store_can_be_replayed(self) -> None:
        message, seen = make_message(data={"null": "\x00"}), list[Message]()
        dead(message)
        consumer("mailer", seen.append)
        replay("mailer", message.message_id)
        assert seen == [message]

    @pytest.mark.parametrize("error", [ValueError("another bug"), TimeoutError("later"), SystemExit(1)])
    def test_a_message_that_fails_again_stays_dead(self, error: BaseException) -> None:
        message = make_message()
        dead(message)
        consumer("mailer", failing(error))
        with pytest.raises(Exception, match=str(error)):
            replay("mailer", message.message_id)
        receipt = InboxReceipt.objects.get()
        assert (receipt.status, receipt.attempts, receipt.message) == ("dead", 4, to_wire(message))
        assert repr(error) in receipt.last_error
        assert effects() == 0

    def test_the_receipt_becomes_handled_in_the_commit_of_the_handler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        message = make_message()
        dead(message)
        consumer("mailer")

        def crash(*args: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("es_django.inbox.receipts.require_healthy_transaction", crash)
            with pytest.raises(KeyboardInterrupt):
                replay("mailer", message.message_id)
        assert (receipts(), effects()) == ({"mailer": "dead"}, 0)

    def test_concurrent_replays_in_processes_have_one_effect(self) -> None:
        message = make_message()
        dead(message)
        assert sorted(run_processes(replay_at_once, [(message,)] * 4)) == [
            "its status is handled, and only dead messages can be replayed"
        ] * 3 + ["replayed"]
        assert effects() == 1


class TestNotReplayable:
    def test_a_handled_message_cannot_be_replayed(self) -> None:
        message = make_message()
        consumer("mailer")
        handle_once("mailer", message, have_an_effect)
        with pytest.raises(NotReplayable, match="its status is handled"):
            replay("mailer", message.message_id)
        assert effects() == 1

    def test_a_message_without_a_receipt_cannot_be_replayed(self) -> None:
        with pytest.raises(NotReplayable, match="it has no receipt"):
            replay("mailer", uuid4())

    def test_a_message_of_a_removed_consumer_cannot_be_replayed_and_stays(self) -> None:
        message = make_message()
        dead(message)
        consumer("another")
        with pytest.raises(NotReplayable, match="no handler"):
            replay("mailer", message.message_id)
        assert InboxReceipt.objects.get().attempts == 3

    def test_content_that_is_not_a_message_cannot_be_replayed_and_stays(self) -> None:
        receive({"number": 1})
        with pytest.raises(NotReplayable, match="the content is not a message"):
            replay(UNHANDLED, InboxReceipt.objects.get().message_id)
        assert receipts() == {UNHANDLED: "dead"}


class TestUnhandledMessages:
    def test_an_unhandled_message_is_handled_by_all_current_consumers(self, settings: Settings) -> None:
        message = make_message()
        settings.ES_DJANGO = {"INBOX": {"MAX_ATTEMPTS": 1}}
        receive(to_wire(message))
        with pytest.raises(NotReplayable, match="no handler"):
            replay(UNHANDLED, message.message_id)
        consumer("mailer")
        consumer("printer")
        replay(UNHANDLED, message.message_id)
        assert receipts() == {UNHANDLED: "handled", "mailer": "handled", "printer": "handled"}
        assert effects() == 2

    def test_an_unhandled_message_is_handled_by_all_consumers_or_none(self, settings: Settings) -> None:
        message = make_message()
        settings.ES_DJANGO = {"INBOX": {"MAX_ATTEMPTS": 1}}
        receive(to_wire(message))
        consumer("mailer")
        consumer("printer", failing(ValueError("a bug")))
        with pytest.raises(ValueError, match="a bug"):
            replay(UNHANDLED, message.message_id)
        assert (receipts(), effects()) == ({UNHANDLED: "dead"}, 0)
