"""Errors of message formats."""

from es_django.core.errors import EsDjangoError


class InvalidCloudEvent(EsDjangoError):
    """What should be a CloudEvent is none; `reason` is meant for its sender."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"not a CloudEvent 1.0: {self.reason}"
