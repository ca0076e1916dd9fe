from django.db import models


class StepCount(models.Model):
    """The number of times that each step was taken."""

    name = models.CharField(max_length=255, primary_key=True)
    count = models.PositiveBigIntegerField()

    def __str__(self) -> str:
        return self.name


class TicketStatus(models.Model):
    """Whether a ticket is open, according to its latest step."""

    ticket = models.CharField(max_length=255, primary_key=True)
    latest_at = models.DateTimeField()
    is_open = models.BooleanField()

    class Meta:
        verbose_name_plural = "ticket statuses"
        indexes = [
            models.Index(fields=["ticket"], condition=models.Q(is_open=True), name="helpdesk_open_tickets"),
        ]

    def __str__(self) -> str:
        return self.ticket


class ClosingNotice(models.Model):
    """The message to the customer when a ticket is closed."""

    message_id = models.UUIDField(unique=True)
    ticket = models.CharField(max_length=255)
    customer = models.TextField()
    closed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.ticket} closed at {self.closed_at}"
