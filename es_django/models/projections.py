from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from es_django.models.field_types import Flag, Integer, Json, OptionalInteger, OptionalTime, Text, Time


class CheckpointStatus(models.TextChoices):
    RUNNING = "running"
    PAUSED = "paused"
    REBUILDING = "rebuilding"
    FAILED = "failed"
    INLINE = "inline"


class ProjectionCheckpoint(models.Model):
    """The position up to which a projection, or one of its partitions, has applied the log.

    While a projection runs inline, its status is `inline` and the position has no meaning. In every other status a
    runner advances the position, and appends do not run the projection.
    """

    name: Text = models.CharField(max_length=255)
    partition: Integer = models.PositiveIntegerField(default=0)
    partitions: Integer = models.PositiveIntegerField(default=1)
    position: Integer = models.BigIntegerField(default=0)
    side_effects: Json = models.JSONField(
        null=True,
        blank=True,
        help_text="During a rebuild: [partition, partitions, position] up to which the side effects are done.",
    )
    status: Text = models.CharField(max_length=10, choices=CheckpointStatus.choices, default=CheckpointStatus.RUNNING)
    attempts: Integer = models.PositiveIntegerField(default=0)
    retry_at: OptionalTime = models.DateTimeField(null=True, blank=True)
    last_error: Text = models.TextField(default="", blank=True)
    failed_position: OptionalInteger = models.BigIntegerField(null=True, blank=True)
    failing_until: OptionalInteger = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="An event up to this position fails. The runner makes batches smaller until it finds the event.",
    )
    needs_newer_code: Flag = models.BooleanField(
        default=False, help_text="Newer code wrote the event at the failed position. A runner with that code goes on."
    )
    updated_at: Time = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        permissions: ClassVar[list[tuple[str, Any]]] = [
            ("operate_projectioncheckpoint", "Can pause, resume and rebuild projections, and skip events")
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["name", "partition"], name="es_django_checkpoint_identity"),
            models.CheckConstraint(condition=Q(position__gte=0), name="es_django_checkpoint_position_not_negative"),
            models.CheckConstraint(
                condition=Q(partition__lt=F("partitions")), name="es_django_checkpoint_partition_exists"
            ),
        ]

    def __str__(self) -> str:
        return self.name if self.partitions == 1 else f"{self.name} ({self.partition + 1} of {self.partitions})"

    def forget_failure(self) -> None:
        self.attempts, self.retry_at, self.last_error = 0, None, ""
        self.failed_position, self.failing_until, self.needs_newer_code = None, None, False


class SkippedEvent(models.Model):
    """An event that an operator made a projection skip."""

    projection: Text = models.CharField(max_length=255)
    position: Integer = models.BigIntegerField()
    error: Text = models.TextField()
    skipped_by: Text = models.CharField(max_length=255)
    skipped_at: Time = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["projection", "-position"], name="es_django_skipped_events")
        ]

    def __str__(self) -> str:
        return f"position {self.position} in {self.projection}"
