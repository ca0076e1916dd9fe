from django.db import models
from django.db.models.functions import Now


class ProjectionCheckpoint(models.Model):
    """The position up to which a projection has applied the log."""

    class Status(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        REBUILDING = "rebuilding"
        FAILED = "failed"

    name = models.CharField(max_length=255, primary_key=True)
    position = models.BigIntegerField(default=0)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    attempts = models.PositiveIntegerField(default=0)
    retry_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(default="", blank=True)
    failed_position = models.BigIntegerField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(position__gte=0), name="es_django_checkpoint_position_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return self.name
