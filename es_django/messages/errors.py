"""Errors of message formats."""

from dataclasses import dataclass

from es_django.core.errors import EsDjangoError


@dataclass(eq=False)
class InvalidCloudEvent(EsDjangoError):
    """The content is not a valid CloudEvent. `reason` explains the fault to the sender."""

    reason: str

    def __str__(self) -> str:
        return f"not a CloudEvent 1.0: {self.reason}"
