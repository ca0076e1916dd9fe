from django.db import models


class Lease(models.Model):
    """The right of one owner to a name, until a moment on the database's clock."""

    name = models.CharField(max_length=255, primary_key=True)
    owner = models.CharField(max_length=255)
    token = models.UUIDField()
    expires_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} of {self.owner}"
