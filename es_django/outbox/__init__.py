"""The transactional outbox: messages are stored with the change that they tell of, and published afterwards."""

from typing import TYPE_CHECKING

from es_django.public import on_first_use

if TYPE_CHECKING:
    from es_django.outbox.messages import asend as asend
    from es_django.outbox.messages import publishes as publishes
    from es_django.outbox.messages import send as send
    from es_django.outbox.operations import discard as discard
    from es_django.outbox.operations import release as release
    from es_django.outbox.operations import requeue as requeue

_HOME = {
    "asend": "outbox.messages",
    "discard": "outbox.operations",
    "publishes": "outbox.messages",
    "release": "outbox.operations",
    "requeue": "outbox.operations",
    "send": "outbox.messages",
}

__all__ = sorted(_HOME)  # noqa: PLE0605

__getattr__, __dir__ = on_first_use(__name__, _HOME)
