"""What is printed to a terminal."""

import re

_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def printable(text: object) -> str:
    """The text without its control characters but for ends of lines: what an error quotes must not move the cursor,
    name the window or hide a line."""
    return _CONTROLS.sub("", str(text))
