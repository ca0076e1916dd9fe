"""JSON as people read it: indented, with its keys marked, and cut off before it becomes a burden.

It works on the stored text, lexeme by lexeme. So a number looks as it is stored, not as Python would round it, and the
beginning of a document is readable without its end.
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
DEEPEST_INDENT = 40

_LEXEME = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_OPENING, _CLOSING = ("{", "["), ("}", "]")

MASK = "••• hidden •••"
_MARKS = {
    (False, False): "{}",
    (False, True): '<span class="es-key">{}</span>',
    (True, False): '<span class="es-masked">{}</span>',
}


class Document(msgspec.Struct, frozen=True):
    """A piece of JSON to show: what it is, its readable text, and how much of what is stored that text covers."""

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
    """Annotations that read at most `limit` characters of a JSON column, and its length.

    The database does the cutting, so that a page of large payloads does not pass through this process.
    """
    text = Cast(F(field), TextField())
    return {f"{field}_text": Left(text, limit), f"{field}_length": Length(text)}


def document(label: str, text: str, length: int, limit: int, hidden: Collection[str] = ()) -> Document:
    """Makes the `text` of a JSON column, perhaps only its beginning, readable within about `limit` characters.

    The values of `hidden` keys, at whatever depth, are left out.
    """
    html, shown = _indented(text, limit, hidden)
    return Document(label, html, shown, length)


def masked(label: str) -> Document:
    """What stands in the place of a whole value that is hidden."""
    return Document(label, format_html(_MARKS[True, False], MASK), len(MASK), len(MASK))


def _indented(text: str, limit: int, hidden: Collection[str]) -> tuple[SafeString, int]:
    """The text, indented, as HTML, and how many of its characters that takes in."""
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
            return mark_safe("".join(parts)), end  # noqa: S308  # all that came from outside is escaped
    return mark_safe("".join(parts)), len(text)  # noqa: S308  # as above


def _masked(lexemes: Sequence[tuple[str, int]], hidden: Collection[str]) -> Iterator[tuple[str, int]]:
    """The lexemes, with one mask in the place of each hidden value."""
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
    """Where the lexemes of the value that begins at `index` end; with the text, if that is cut off before."""
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
    return "\n" + INDENT * min(depth, DEEPEST_INDENT)
