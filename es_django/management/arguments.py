"""Arguments that several commands share, and errors of commands on one line."""

import math
import os
from argparse import ArgumentParser, ArgumentTypeError
from getpass import getuser

from django.core.management.base import CommandError

from es_django.management.terminal import printable


def add_by(parser: ArgumentParser) -> None:
    """Add `--by`, the person who asks for the change. The default is the user of the operating system."""
    parser.add_argument(
        "--by", type=_person, default=_user(), help="who asks for the change, for the log (default: your user name)"
    )


def _person(text: str) -> str:
    if not text.strip():
        raise ArgumentTypeError("name a person, or leave the option out")
    return text


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # for example in a container whose user has no name
        return f"uid {os.getuid()}"


def require_seconds(option: str, value: float) -> None:
    """Raise `CommandError` unless `value` is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise CommandError(f"{option} must be more than 0 seconds, not {value}")


def one_line(error: Exception | str) -> CommandError:
    """Return a `CommandError` with the text of `error` on one line."""
    return CommandError(printable(" ".join(str(error).split())))
