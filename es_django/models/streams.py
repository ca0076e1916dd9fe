from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now

from es_django.models.field_types import Identity, Integer, Json, OptionalText, OptionalTime, Text, Time, Uuid


class Stream(models.Model):
    """A stream: the identity and version of the ordered events of one subject, such as an aggregate."""

    category: Text = models.CharField(max_length=255)
    key: Text = models.CharField(max_length=255)
    version: Integer = models.BigIntegerField(help_text="The number of events in this stream.")
    created_at: Time = models.DateTimeField(db_default=Now())
    updated_at: Time = models.DateTimeField(db_default=Now())
    archived_at: OptionalTime = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["category", "key"], name="es_django_stream_identity"),
            models.CheckConstraint(
                condition=~models.Q(category="") & ~models.Q(key=""),
                name="es_django_stream_identity_not_empty",
            ),
            models.CheckConstraint(condition=models.Q(version__gte=0), name="es_django_stream_version_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.category} {self.key}"


class StoredEvent(models.Model):
    """An event as it is stored. Events are append-only: the database refuses to change them."""

    position: Identity = models.BigAutoField(primary_key=True)
    stream: "models.ForeignKey[Stream, Stream]" = models.ForeignKey(
        Stream, models.PROTECT, related_name="events", db_index=False
    )
    version: Integer = models.BigIntegerField()
    type: Text = models.CharField(max_length=255)
    schema_version: Integer = models.PositiveIntegerField()
    data: Json = models.JSONField()
    metadata: Json = models.JSONField()
    correlation_id: OptionalText = models.CharField(max_length=255, null=True, blank=True)
    causation_id: OptionalText = models.CharField(max_length=255, null=True, blank=True)
    event_id: Uuid = models.UUIDField()
    recorded_at: Time = models.DateTimeField()

    class Meta:
        db_table = "es_django_event"
        verbose_name = "event"
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        permissions: ClassVar[list[tuple[str, Any]]] = [
            ("view_sensitive_data", "Can view the sensitive fields of events")
        ]
        indexes: ClassVar[list[models.Index]] = [
            # For finding the events of one request, and the events that one message caused. Events without the id are
            # not indexed.
            models.Index(
                fields=["correlation_id"],
                condition=models.Q(correlation_id__isnull=False),
                name="es_django_event_correlated",
            ),
            models.Index(
                fields=["causation_id"],
                condition=models.Q(causation_id__isnull=False),
                name="es_django_event_caused_by",
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["stream", "version"], name="es_django_event_version"),
            models.UniqueConstraint(fields=["event_id"], name="es_django_event_id"),
            models.CheckConstraint(condition=models.Q(version__gt=0), name="es_django_event_version_positive"),
            # Readers begin after position 0, and the floors of PostgreSQL have 47 bits for a position.
            models.CheckConstraint(
                condition=models.Q(position__gt=0, position__lt=2**47), name="es_django_event_position_fits"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} at {self.position}"


class Snapshot(models.Model):
    """A cached state of an aggregate, for code that has the same `schema`. It may be deleted at any time.

    Two deployments that run at once may have two schemas, so a stream keeps the newest snapshots of two schemas.
    """

    stream: "models.ForeignKey[Stream, Stream]" = models.ForeignKey(
        Stream, models.CASCADE, related_name="snapshots", db_index=False
    )
    version: Integer = models.BigIntegerField()
    schema: Text = models.CharField(max_length=255)
    state: Text = models.TextField()
    taken_at: Time = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["stream", "schema"], name="es_django_snapshot_schema"),
            models.CheckConstraint(condition=models.Q(version__gt=0), name="es_django_snapshot_version_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.stream} at version {self.version}"
