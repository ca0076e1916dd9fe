from django.db import models
from django.db.models.functions import Now


class InboxReceipt(models.Model):
    """The record that a consumer has handled a message, written with the handler's own effects."""

    class Status(models.TextChoices):
        HANDLED = "handled"
        DEAD = "dead"

    consumer = models.CharField(max_length=255)
    message_id = models.CharField(max_length=255)
    status = models.CharField(max_length=7, choices=Status.choices)
    attempts = models.PositiveIntegerField(default=1)
    last_error = models.TextField(default="", blank=True)
    message = models.JSONField(null=True, blank=True)
    handled_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        permissions = [("replay_inboxreceipt", "Can replay dead messages")]
        indexes = [
            models.Index(fields=["handled_at"], condition=models.Q(status="handled"), name="es_django_inbox_handled"),
            models.Index(fields=["id"], condition=models.Q(status="dead"), name="es_django_inbox_dead"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["consumer", "message_id"], name="es_django_inbox_once"),
            models.CheckConstraint(
                condition=~models.Q(consumer="") & ~models.Q(message_id=""), name="es_django_inbox_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} by {self.consumer}"
