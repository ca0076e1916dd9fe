from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now

from es_django.models.field_types import Integer, Json, OptionalTime, Text, Time


class InboxReceipt(models.Model):
    """What a consumer has done with a message: it has handled it, tries again later, or has given it up.

    `handled` is written in the same transaction as the handler's effects. `handling` and `retrying` are open: the
    receipt keeps the message until a handler succeeds or the message is dead. `retry_at` is the time of the next
    attempt, and for `handling` the time from which a handler without an open transaction counts as lost.

    `fingerprint` identifies the content of the message. Other content that comes under the same message id is refused
    and kept in a dead receipt of its own, whose `conflict` is the fingerprint of that content; otherwise `conflict` is
    empty.
    """

    class Status(models.TextChoices):
        HANDLED = "handled"
        DEAD = "dead"
        HANDLING = "handling"
        RETRYING = "retrying"

    consumer: Text = models.CharField(max_length=255)
    message_id: Text = models.CharField(max_length=255)
    conflict: Text = models.CharField(max_length=32, default="", db_default="", blank=True)
    fingerprint: Text = models.CharField(max_length=32, default="", db_default="", blank=True)
    status: Text = models.CharField(max_length=8, choices=Status.choices)
    attempts: Integer = models.PositiveIntegerField(default=1)
    last_error: Text = models.TextField(default="", blank=True)
    message: Json = models.JSONField(null=True, blank=True)
    route: Json = models.JSONField(null=True, blank=True)
    retry_at: OptionalTime = models.DateTimeField(null=True, blank=True)
    handled_at: Time = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        permissions: ClassVar[list[tuple[str, Any]]] = [("replay_inboxreceipt", "Can replay dead messages")]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["handled_at"], condition=models.Q(status="handled"), name="es_django_inbox_handled"),
            models.Index(fields=["id"], condition=models.Q(status="dead"), name="es_django_inbox_dead"),
            models.Index(
                fields=["retry_at"],
                condition=models.Q(status__in=("handling", "retrying")),
                name="es_django_inbox_open",
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # The message id comes first, because operators search for a message id alone.
            models.UniqueConstraint(fields=["message_id", "consumer", "conflict"], name="es_django_inbox_once"),
            models.CheckConstraint(
                condition=~models.Q(consumer="") & ~models.Q(message_id=""), name="es_django_inbox_not_empty"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=("handled", "dead"), retry_at__isnull=True)
                | models.Q(status__in=("handling", "retrying"), retry_at__isnull=False),
                name="es_django_inbox_status_fits",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} by {self.consumer}"
