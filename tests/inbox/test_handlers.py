"""Functions that can be registered as handlers."""

from typing import Any

import pytest

from es_django import Message, handles
from es_django.errors import DefinitionError
from es_django.inbox.handlers import UNHANDLED
from tests.inbox.deliveries import have_an_effect


def another(message: Message) -> None: ...


class TestHandles:
    def test_an_asynchronous_handler_is_rejected(self) -> None:
        async def handle(message: Message) -> None: ...

        with pytest.raises(DefinitionError, match="must be a plain function"):
            handles("tests.async", consumer="mailer")(handle)  # type: ignore[type-var]

    @pytest.mark.parametrize(
        ("message_type", "consumer", "reason"),
        [
            (" ", "mailer", "1 to 255 characters"),
            ("tests.noted", "", "1 to 255 characters"),
            ("tests.noted", "x" * 256, "1 to 255 characters"),
            ("tests.noted", "a\x00b", "1 to 255 characters"),
            ("tests.noted", "a\nb", "must be printable"),
        ],
    )
    def test_invalid_message_types_and_consumers_are_rejected(
        self, message_type: str, consumer: str, reason: str
    ) -> None:
        with pytest.raises(DefinitionError, match=reason):
            handles(message_type, consumer=consumer)

    def test_the_name_for_messages_without_a_consumer_is_reserved(self) -> None:
        with pytest.raises(DefinitionError, match="without a consumer"):
            handles("tests.noted", consumer=UNHANDLED)

    @pytest.mark.parametrize(
        ("policy", "reason"),
        [
            ({"retry_on": "TimeoutError"}, "retry_on must be an exception class"),
            ({"retry_on": (TimeoutError, 503)}, "retry_on must be an exception class"),
            ({"attempts": 0}, "attempts must be an integer of at least 1, got 0"),
            ({"attempts": True}, "attempts must be an integer of at least 1, got True"),
            ({"attempts": 1.5}, "attempts must be an integer of at least 1, got 1.5"),
            ({"backoff": {"base": -1}}, "backoff: .*base"),
            ({"backoff": {"pause": 1}}, "backoff: .*pause"),
        ],
    )
    def test_fault_b4_a_wrong_policy_is_rejected(self, policy: dict[str, Any], reason: str) -> None:
        with pytest.raises(DefinitionError, match=reason):
            handles("tests.noted", consumer="mailer", **policy)

    def test_two_handlers_of_one_consumer_for_one_type_are_rejected(self) -> None:
        handles("tests.twice", consumer="mailer")(have_an_effect)
        with pytest.raises(DefinitionError, match="two handlers"):
            handles("tests.twice", consumer="mailer")(another)
