from collections.abc import Sequence
from typing import ClassVar

from django.db import models

from es_django.models.field_types import Text, Time, Uuid


class Lease(models.Model):
    """A lease: only its owner may use the name until `expires_at`, by the clock of the database."""

    name: Text = models.CharField(max_length=255, primary_key=True)
    owner: Text = models.CharField(max_length=255)
    token: Uuid = models.UUIDField()
    expires_at: Time = models.DateTimeField()

    class Meta:
        default_permissions: ClassVar[Sequence[str]] = ("view",)

    def __str__(self) -> str:
        return f"{self.name} of {self.owner}"
