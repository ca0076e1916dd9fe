"""The formats of messages for other systems: CloudEvents, or plain JSON of the message's own fields.

In both formats the body holds the whole message, including its headers. So the body is the same on every transport, and
a signature of the body covers the whole message. The structured mode of CloudEvents does this, the binary mode does
not; so only the structured mode is used.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
from cloudevents.core.formats.json import JSONFormat
from django.core.exceptions import ImproperlyConfigured

from es_django.messages.cloudevents import to_cloudevent
from es_django.messages.message import Message, to_wire
from es_django.outbox.errors import PublishError
from es_django.outbox.publishers import Outcomes


class Format(NamedTuple):
    content_type: str
    encode: Callable[[Message], bytes]
    """Return the body. Raise a `PublishError` that is not retryable if the format cannot express the message."""


def _encode_cloudevent(message: Message) -> bytes:
    try:
        return JSONFormat().write(to_cloudevent(message))
    except Exception as error:
        raise PublishError(f"CloudEvents cannot express the message: {error}", retryable=False) from error


def _encode_json(message: Message) -> bytes:
    return msgspec.json.encode(to_wire(message))


FORMATS = {
    "cloudevents": Format(JSONFormat.CONTENT_TYPE, _encode_cloudevent),
    "json": Format("application/json", _encode_json),
}


def format_named(name: str) -> Format:
    """Return the format with this name. Raise `ImproperlyConfigured` if there is no such format."""
    if name not in FORMATS:
        raise ImproperlyConfigured(f"the option format must be {' or '.join(map(repr, FORMATS))}, not {name!r}")
    return FORMATS[name]


def encode_all(
    messages: Iterable[tuple[int, Message]], format: Format, outcomes: Outcomes
) -> Iterator[tuple[int, Message, bytes]]:
    """Yield the index, the message and its body. If a message cannot be encoded, store its error in `outcomes`."""
    for index, message in messages:
        try:
            body = format.encode(message)
        except PublishError as error:
            outcomes[index] = error
        else:
            yield index, message, body
