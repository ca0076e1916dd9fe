"""manage.py es_outbox"""

import logging
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from es_django import outbox
from es_django.models import OutboxMessage
from es_django.outbox.relay import relay
from tests.publishers import Recorder, never

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _everything_fails(recorder: type[Recorder]) -> None:
    recorder.fail = staticmethod(lambda message: never)


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("es_outbox", *arguments, stdout=output)
    return output.getvalue().strip()


def statuses() -> list[str]:
    return list(OutboxMessage.objects.order_by("id").values_list("status", flat=True))


def send(*types: str) -> list[str]:
    return [str(outbox.send("tests", type=type, data=None)) for type in types]


class TestOperations:
    def test_messages_are_requeued_by_id_and_those_that_are_not_dead_are_skipped(self) -> None:
        first, second = send("noted", "noted")
        relay()
        (third,) = send("noted")
        assert (
            run("requeue", first, third, str(uuid4()))
            == "1 message was requeued; 2 skipped: not found, or status is not dead"
        )
        assert statuses() == ["pending", "dead", "pending"]
        assert second not in {first, third}

    def test_messages_are_chosen_by_destination_and_type(self, caplog: pytest.LogCaptureFixture) -> None:
        send("noted", "announced", "noted")
        relay()
        with caplog.at_level(logging.INFO, "es_django.outbox"):
            assert (
                run("discard", "--destination", "tests", "--type", "noted", "--by", "ada")
                == "2 messages were discarded"
            )
        assert statuses() == ["discarded", "dead", "discarded"]
        assert caplog.text.count("was discarded by ada") == 2
        assert run("requeue", "--destination", "tests") == "1 message was requeued"
        assert run("requeue", "--destination", "tests") == "0 messages were requeued"


class TestArguments:
    def test_an_unknown_destination_is_rejected_unless_it_still_has_messages(self, settings: Settings) -> None:
        send("noted")
        relay()
        settings.ES_DJANGO = {}
        assert run("requeue", "--destination", "tests") == "1 message was requeued"
        for operation in ("requeue", "release", "discard"):
            with pytest.raises(CommandError, match="no destination 'typo' in"):
                run(operation, "--destination", "typo")
        assert run("discard", "--destination", "tests") == "1 message was discarded"
        with pytest.raises(CommandError, match="no destination 'tests' in"):
            run("requeue", "--destination", "tests")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["requeue"], "either message ids or --destination"),
            (["requeue", str(uuid4()), "--destination", "tests"], "either message ids or --destination"),
            (["requeue", str(uuid4()), "--type", "noted"], "--type needs --destination"),
            (["forget", str(uuid4())], "invalid choice"),
            (["requeue", "message-7"], "invalid UUID value"),
        ],
    )
    def test_an_invalid_command_line_is_rejected(self, arguments: list[str], error: str) -> None:
        with pytest.raises(CommandError, match=error):
            run(*arguments)
