"""What several commands are told, and how they refuse it: in one line."""

import math
import os
from argparse import ArgumentParser, ArgumentTypeError
from getpass import getuser

from django.core.management.base import CommandError

from es_django.management.terminal import printable


def add_by(parser: ArgumentParser) -> None:
    """Adds --by, who asks for it; the user of this shell where absent."""
    parser.add_argument("--by", type=_named, default=_user(), help="who asks for it, for the log; you, where absent")


def _named(text: str) -> str:
    if not text.strip():
        raise ArgumentTypeError("it names somebody, or is left out")
    return text


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # as in a container whose user has no name
        return f"uid {os.getuid()}"


def seconds(option: str, value: float) -> float:
    """A number of seconds. Raises `CommandError` for one that is none, is not more than 0, or has no end."""
    if not (math.isfinite(value) and value > 0):
        raise CommandError(f"{option} is more than 0 seconds, not {value}")
    return value


def refusal(error: Exception | str) -> CommandError:
    """What an error says, in one line."""
    return CommandError(printable(" ".join(str(error).split())))
