"""What can be registered as a handler."""

import pytest

from es_django import Message, handles
from es_django.errors import DefinitionError
from es_django.inbox.handlers import UNHANDLED
from tests.inbox.deliveries import have_an_effect


def another(message: Message) -> None: ...


def test_an_asynchronous_handler_is_refused() -> None:
    async def handle(message: Message) -> None: ...

    with pytest.raises(DefinitionError, match="must be a plain function"):
        handles("tests.async", consumer="mailer")(handle)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("message_type", "consumer"),
    [(" ", "mailer"), ("tests.noted", ""), ("tests.noted", "x" * 256), ("tests.noted", "a\x00b")],
)
def test_a_name_that_is_blank_too_long_or_not_printable_is_refused(message_type: str, consumer: str) -> None:
    with pytest.raises(DefinitionError, match="1 to 255 characters"):
        handles(message_type, consumer=consumer)


def test_the_name_for_messages_without_a_consumer_is_refused() -> None:
    with pytest.raises(DefinitionError, match="without a consumer"):
        handles("tests.noted", consumer=UNHANDLED)


def test_two_handlers_of_one_consumer_for_one_type_are_refused() -> None:
    handles("tests.twice", consumer="mailer")(have_an_effect)
    with pytest.raises(DefinitionError, match="two handlers"):
        handles("tests.twice", consumer="mailer")(another)
