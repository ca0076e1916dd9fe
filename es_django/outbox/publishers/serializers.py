"""How a message is written for others: as a CloudEvent, or plainly as its own fields.

Either way the body says everything, the message's headers too. So it is the same on every transport, and a signature of
the body covers all of it. That is why CloudEvents go out in structured mode only.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from cloudevents.core.formats.json import JSONFormat
from django.core.exceptions import ImproperlyConfigured

from es_django.messages.cloudevents import to_cloudevent
from es_django.messages.message import Message, to_wire
from es_django.outbox.errors import PublishError


class Format(NamedTuple):
    content_type: str
    encode: Callable[[Message], bytes]
    """Raises a permanent `PublishError` for a message that cannot be written in this format."""


def _as_cloudevent(message: Message) -> bytes:
    try:
        return JSONFormat().write(to_cloudevent(message))
    except Exception as error:
        raise PublishError(f"it is not possible as a CloudEvent: {error}", retryable=False) from error


def _as_fields(message: Message) -> bytes:
    return msgspec.json.encode(to_wire(message))


FORMATS = {
    "cloudevents": Format(JSONFormat.CONTENT_TYPE, _as_cloudevent),
    "json": Format("application/json", _as_fields),
}


def format_named(name: str) -> Format:
    """The format of that name. Raises `ImproperlyConfigured` if there is none."""
    if name not in FORMATS:
        raise ImproperlyConfigured(f"the format is {' or '.join(map(repr, FORMATS))}, not {name!r}")
    return FORMATS[name]


Outcomes = dict[int, PublishError | None]
"""What became of the messages of a call, by their index in it, as far as it is known."""


def encoded(messages: Sequence[Message], format: Format, outcomes: Outcomes) -> Iterator[tuple[int, Message, bytes]]:
    """The messages with their indexes and bodies, but for those that cannot be written, which get their outcome."""
    for index, message in enumerate(messages):
        try:
            body = format.encode(message)
        except PublishError as error:
            outcomes[index] = error
        else:
            yield index, message, body
