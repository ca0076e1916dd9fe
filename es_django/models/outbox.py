from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from es_django.models.field_types import Integer, Json, OptionalInteger, OptionalText, OptionalTime, Text, Time, Uuid
from es_django.models.stored_bytes import StoredBytes
from es_django.models.streams import Stream


class OutboxMessage(models.Model):
    """A message to another system, written in the transaction of the change that it reports."""

    class Status(models.TextChoices):
        PENDING = "pending"
        CLAIMED = "claimed"
        PUBLISHED = "published"
        DEAD = "dead"
        DISCARDED = "discarded"

    message_id: Uuid = models.UUIDField()
    destination: Text = models.CharField(max_length=255)
    type: Text = models.CharField(max_length=255)
    key: OptionalText = models.CharField(max_length=255, null=True, blank=True)
    data: Json = models.JSONField()
    headers: Json = models.JSONField()
    size: "models.GeneratedField" = models.GeneratedField(
        expression=StoredBytes("data"), output_field=models.BigIntegerField(), db_persist=True
    )
    """The bytes of `data`, so that a claim knows them without reading the data."""
    stream: "models.ForeignKey[Stream | None, Stream | None]" = models.ForeignKey(
        Stream, models.PROTECT, null=True, blank=True, related_name="messages", db_index=False
    )
    stream_version: OptionalInteger = models.BigIntegerField(null=True, blank=True)
    status: Text = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    attempts: Integer = models.PositiveIntegerField(default=0)
    available_at: Time = models.DateTimeField(db_default=Now())
    claimed_by: OptionalText = models.CharField(max_length=255, null=True, blank=True)
    claimed_until: OptionalTime = models.DateTimeField(null=True, blank=True)
    published_at: OptionalTime = models.DateTimeField(null=True, blank=True)
    failed_at: OptionalTime = models.DateTimeField(null=True, blank=True)
    last_error: Text = models.TextField(default="", blank=True)
    created_at: Time = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        permissions: ClassVar[list[tuple[str, Any]]] = [
            ("requeue_outboxmessage", "Can requeue dead messages"),
            ("release_outboxmessage", "Can release messages that wait or that a worker holds"),
            ("discard_outboxmessage", "Can discard messages"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["destination", "id"], condition=Q(status="pending"), name="es_django_outbox_pending"),
            models.Index(fields=["destination", "id"], condition=Q(status="claimed"), name="es_django_outbox_claimed"),
            models.Index(
                fields=["destination", "available_at"],
                condition=Q(status="pending", available_at__gt=F("created_at")),
                name="es_django_outbox_waiting",
            ),
            models.Index(
                fields=["destination", "key", "id"],
                condition=Q(status__in=("pending", "claimed"), key__isnull=False),
                name="es_django_outbox_open_key",
            ),
            models.Index(fields=["destination", "id"], condition=Q(status="dead"), name="es_django_outbox_dead"),
            models.Index(
                fields=["stream", "stream_version"], condition=Q(stream__isnull=False), name="es_django_outbox_source"
            ),
            models.Index(
                fields=["id"], condition=Q(status__in=("dead", "discarded")), name="es_django_outbox_given_up"
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["message_id"], name="es_django_outbox_message_id"),
            models.CheckConstraint(
                condition=(
                    Q(
                        status="pending",
                        claimed_by__isnull=True,
                        claimed_until__isnull=True,
                        published_at__isnull=True,
                        failed_at__isnull=True,
                    )
                    | Q(
                        status="claimed",
                        claimed_by__isnull=False,
                        claimed_until__isnull=False,
                        published_at__isnull=True,
                        failed_at__isnull=True,
                    )
                    | Q(
                        status="published",
                        claimed_by__isnull=True,
                        claimed_until__isnull=True,
                        published_at__isnull=False,
                        failed_at__isnull=True,
                    )
                    | Q(
                        status__in=("dead", "discarded"),
                        claimed_by__isnull=True,
                        claimed_until__isnull=True,
                        published_at__isnull=True,
                        failed_at__isnull=False,
                    )
                ),
                name="es_django_outbox_status_fits",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} to {self.destination}"
