"""`asend` sends a message from asynchronous code."""

import inspect
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from es_django import outbox
from es_django.errors import DuplicateMessage
from es_django.models import OutboxMessage
from es_django.testing import outbox_messages


class TestAsend:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.usefixtures("recorder")
    def test_asend_does_the_same_as_send(self) -> None:
        assert inspect.signature(outbox.asend) == inspect.signature(outbox.send)
        message_id, delay = uuid4(), timedelta(minutes=5)

        async def send() -> None:
            send = partial(outbox.asend, "tests", type="noted", key="k", message_id=message_id)
            assert await send(data={"n": 1}, headers={"a": "b"}, delay=delay) == message_id
            with pytest.raises(DuplicateMessage):
                await send(data=None)

        async_to_sync(send)()
        (message,) = outbox_messages()
        assert (message.destination, message.type, message.data) == ("tests", "noted", {"n": 1})
        assert (message.key, message.headers["a"], message.message_id) == ("k", "b", message_id)
        assert OutboxMessage.objects.get().available_at > timezone.now() + timedelta(minutes=4)
