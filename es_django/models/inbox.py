from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now

from es_django.models.field_types import Integer, Json, Text, Time


class InboxReceipt(models.Model):
    """The record that a consumer has handled a message, written in the same transaction as the handler's effects."""

    class Status(models.TextChoices):
        HANDLED = "handled"
        DEAD = "dead"

    consumer: Text = models.CharField(max_length=255)
    message_id: Text = models.CharField(max_length=255)
    status: Text = models.CharField(max_length=7, choices=Status.choices)
    attempts: Integer = models.PositiveIntegerField(default=1)
    last_error: Text = models.TextField(default="", blank=True)
    message: Json = models.JSONField(null=True, blank=True)
    handled_at: Time = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        permissions: ClassVar[list[tuple[str, Any]]] = [("replay_inboxreceipt", "Can replay dead messages")]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["handled_at"], condition=models.Q(status="handled"), name="es_django_inbox_handled"),
            models.Index(fields=["id"], condition=models.Q(status="dead"), name="es_django_inbox_dead"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["consumer", "message_id"], name="es_django_inbox_once"),
            models.CheckConstraint(
                condition=~models.Q(consumer="") & ~models.Q(message_id=""), name="es_django_inbox_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} by {self.consumer}"
