"""What several commands are told, and how they refuse it: in one line."""

import math
import os
from getpass import getuser

from django.core.management.base import CommandError


def operator(by: str | None = None) -> str:
    """Who asks for it: whom --by names, or the user of this shell."""
    if by is not None and not by.strip():
        raise CommandError("--by names somebody, or is left out")
    try:
        return by or getuser()
    except (KeyError, OSError):  # as in a container whose user has no name
        return f"user {os.getuid()}"


def seconds(option: str, value: float) -> float:
    """A number of seconds. Raises `CommandError` for one that is none, is not more than 0, or has no end."""
    if not (math.isfinite(value) and value > 0):
        raise CommandError(f"{option} is more than 0 seconds, not {value}")
    return value


def refusal(error: Exception) -> CommandError:
    """What an error says, in one line."""
    return CommandError(" ".join(str(error).split()))
