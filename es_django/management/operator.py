"""Who asks for something at the command line, for the log."""

import os
from argparse import ArgumentParser
from getpass import getuser


def add_by(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--by", default=_user(), help="who asks for it, for the log; the user of this shell where absent"
    )


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return f"uid {os.getuid()}"
