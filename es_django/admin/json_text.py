"""JSON for people: indented, with marked keys, and cut off at a limit.

This module formats the stored text lexeme by lexeme and never parses a whole document. Numbers therefore appear as
stored, not as Python rounds them. A document that was cut off can still be formatted.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence

import msgspec
from django.db.models import F, TextField
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Left, Length
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

INDENT = "  "
MAX_INDENT = 40

_LEXEME = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_OPENING, _CLOSING = ("{", "["), ("}", "]")

MASK = "••• hidden •••"
_MARKS = {
    (False, False): "{}",
    (False, True): '<span class="es-key">{}</span>',
    (True, False): '<span class="es-masked">{}</span>',
}


class Document(msgspec.Struct, frozen=True):
    """JSON to show: a label, the readable text, and how many of the stored characters the text covers."""

    label: str
    html: SafeString
    shown: int
    length: int

    @property
    def is_cut(self) -> bool:
        return self.shown < self.length

    @property
    def cut_note(self) -> str:
        return f"The first {self.shown:,} of {self.length:,} characters."


def stored_text(field: str, limit: int) -> dict[str, Combinable]:
    """Return query annotations for the first `limit` characters of a JSON column, and for its length.

    The database cuts the text, so that large payloads never pass through this process.
    """
    text = Cast(F(field), TextField())
    return {f"{field}_text": Left(text, limit), f"{field}_length": Length(text)}


def document(label: str, text: str, length: int, limit: int, hidden: Collection[str] = ()) -> Document:
    """Format the stored `text` of a JSON column in about `limit` characters.

    `text` may be only the beginning of the stored text, whose full length is `length`. Values of `hidden` keys are
    masked at any depth.
    """
    html, shown = _indented(text, limit, hidden)
    return Document(label, html, shown, length)


def masked(label: str) -> Document:
    """Return a document that shows a mask instead of a hidden value."""
    return Document(label, format_html(_MARKS[True, False], MASK), len(MASK), len(MASK))


def _indented(text: str, limit: int, hidden: Collection[str]) -> tuple[SafeString, int]:
    """Return the text as indented HTML, and the number of its characters that the HTML covers."""
    parts: list[str] = []
    size = depth = 0
    lexemes = [(match.group(), match.end()) for match in _LEXEME.finditer(text)]
    if hidden:
        lexemes = list(_masked(lexemes, hidden))
    for index, (lexeme, end) in enumerate(lexemes):
        previous = lexemes[index - 1][0] if index else ""
        following = lexemes[index + 1][0] if index + 1 < len(lexemes) else ""
        before = after = ""
        if lexeme in _OPENING:
            depth += 1
            after = "" if following in _CLOSING else _line(depth)
        elif lexeme in _CLOSING:
            depth = max(0, depth - 1)
            before = "" if previous in _OPENING else _line(depth)
        elif lexeme == ",":
            after = _line(depth)
        elif lexeme == ":":
            after = " "
        is_key = following == ":" and lexeme.startswith('"')
        parts += (before, _MARKS[lexeme is MASK, is_key].format(escape(lexeme)), after)
        size += len(before) + len(lexeme) + len(after)
        if size >= limit and following:
            return mark_safe("".join(parts)), end  # noqa: S308  # every stored character is escaped
    return mark_safe("".join(parts)), len(text)  # noqa: S308  # as above


def _masked(lexemes: Sequence[tuple[str, int]], hidden: Collection[str]) -> Iterator[tuple[str, int]]:
    """Yield the lexemes, with one mask in the place of each hidden value."""
    index = 0
    while index < len(lexemes):
        lexeme = lexemes[index][0]
        yield lexemes[index]
        index += 1
        if (
            lexeme.startswith('"')
            and lexemes[index : index + 1]
            and lexemes[index][0] == ":"
            and _key(lexeme) in hidden
        ):
            yield lexemes[index]
            beyond = _end_of_value(lexemes, index + 1)
            if beyond > index + 1:
                yield MASK, lexemes[beyond - 1][1]
            index = beyond


def _end_of_value(lexemes: Sequence[tuple[str, int]], index: int) -> int:
    """Return the index after the value that begins at `index`, or after the last lexeme if the text is cut off."""
    depth = 0
    while index < len(lexemes):
        lexeme = lexemes[index][0]
        depth += (lexeme in _OPENING) - (lexeme in _CLOSING)
        index += 1
        if depth <= 0:
            break
    return index


def _key(lexeme: str) -> str:
    return str(json.loads(lexeme)) if "\\" in lexeme else lexeme[1:-1]


def _line(depth: int) -> str:
    return "\n" + INDENT * min(depth, MAX_INDENT)
