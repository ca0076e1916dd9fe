"""The fingerprint of a message's content, which tells a repeated delivery from another message under the same id."""

import json
from hashlib import blake2b
from typing import Any

from es_django.messages.message import Message

# Headers that say how a message travelled, or when a sender made a request. They may differ from delivery to delivery.
# The id and the source are the identity, not the content.
_NOT_CONTENT = frozenset(
    {"id", "source", "time", "traceparent", "tracestate", "baggage", "correlation_id", "causation_id"}
)
_LENGTH = 16


def fingerprint_of(message: Message) -> str:
    """Return 32 characters that are equal for two deliveries of one message, and differ for other content.

    The content is the type, the data, the key, the stream and its version, and every header, but for the headers of
    tracing and `time`. The order of keys, white space and the spelling of a number (1, 1.0, 1e0) make no difference.
    """
    headers = {name: value for name, value in message.headers.items() if name not in _NOT_CONTENT}
    if "datacontenttype" in headers:
        headers["datacontenttype"] = headers["datacontenttype"].partition(";")[0].strip().lower()
        if headers["datacontenttype"] == "application/json":
            del headers["datacontenttype"]
    stream = message.stream and [message.stream.category, message.stream.key]
    content = [message.type, message.data, message.key, stream, message.stream_version, headers]
    # The C code of `json` does the recursion, so that any document that was parsed can be walked.
    plain = json.loads(json.dumps(content, default=repr), parse_float=_number)
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=_LENGTH).hexdigest()


def _number(text: str) -> Any:
    value = float(text)
    return int(value) if value.is_integer() else value
