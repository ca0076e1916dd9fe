"""Text that is safe to print to a terminal."""

import re

_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def printable(text: object) -> str:
    """Return the text without control characters other than line ends.

    Otherwise an error that quotes stored text could move the cursor, rename the window or hide a line.
    """
    return _CONTROLS.sub("", str(text))
