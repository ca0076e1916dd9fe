from django.db import models
from django.db.models.functions import Now


class Stream(models.Model):
    """The ordered events of one thing."""

    category = models.CharField(max_length=255)
    key = models.CharField(max_length=255)
    version = models.BigIntegerField(help_text="The number of events in this stream.")
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [
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
    """One event, as stored; append-only."""

    position = models.BigAutoField(primary_key=True)
    stream = models.ForeignKey(Stream, models.PROTECT, related_name="events", db_index=False)
    version = models.BigIntegerField()
    type = models.CharField(max_length=255)
    schema_version = models.PositiveIntegerField()
    data = models.JSONField()
    metadata = models.JSONField()
    correlation_id = models.CharField(max_length=255, null=True, blank=True)
    causation_id = models.CharField(max_length=255, null=True, blank=True)
    event_id = models.UUIDField()
    recorded_at = models.DateTimeField()

    class Meta:
        db_table = "es_django_event"
        verbose_name = "event"
        default_permissions = ("view",)
        permissions = [("view_sensitive_data", "Can view what events mark as sensitive")]
        indexes = [
            # What belongs to one request, and what a message caused. An event without these is in neither index.
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
        constraints = [
            models.UniqueConstraint(fields=["stream", "version"], name="es_django_event_version"),
            models.UniqueConstraint(fields=["event_id"], name="es_django_event_id"),
            models.CheckConstraint(condition=models.Q(version__gt=0), name="es_django_event_version_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.type} at {self.position}"


class Snapshot(models.Model):
    """The latest cached fold of a stream; may be deleted at any time."""

    stream = models.OneToOneField(Stream, models.CASCADE, primary_key=True, related_name="snapshot")
    version = models.BigIntegerField()
    schema = models.CharField(max_length=255)
    state = models.TextField()
    taken_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(condition=models.Q(version__gt=0), name="es_django_snapshot_version_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.stream} at version {self.version}"
