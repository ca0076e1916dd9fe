import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_django.admin.json_text import document
from tests.admin.pages import Page
from tests.processes import run_processes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def readable(text: str, limit: int = 1_000_000) -> str:
    return Page(document("", text, len(text), limit).html).raw_text


@given(JSON, st.booleans())
def test_it_reads_as_what_python_would_indent(value: Any, spaced: bool) -> None:
    stored = json.dumps(value, ensure_ascii=False, separators=None if spaced else (",", ":"))
    if "\r" not in stored and "\x00" not in stored:  # an HTML parser replaces these
        assert readable(stored) == json.dumps(value, ensure_ascii=False, indent=2)


@given(JSON, st.integers(0, 60))
def test_the_beginning_of_a_document_is_readable_without_its_end(value: Any, length: int) -> None:
    stored = json.dumps(value, ensure_ascii=False)
    beginning = stored[:length]
    shown = document("", beginning, len(stored), 1_000)
    assert shown.is_cut == (len(beginning) < len(stored))
    assert "".join(readable(beginning).split()) == "".join(beginning.split())


@pytest.mark.parametrize("number", ["1.10", "1e400", "-0.0", "12345678901234567890.123456789"])
def test_a_number_looks_as_it_is_stored(number: str) -> None:
    assert readable(f'{{"amount":{number}}}') == f'{{\n  "amount": {number}\n}}'


def test_keys_are_marked_and_values_are_not() -> None:
    page = Page(document("", '{"a": "b", "c": ["d"]}', 22, 1_000).html)
    assert [key.text for key in page.all("span.es-key")] == ['"a"', '"c"']


def test_what_is_too_long_is_cut_off_and_said() -> None:
    text = json.dumps(list(range(1_000)))
    shown = document("", text, len(text), 100)
    assert shown.is_cut
    assert shown.cut_note == f"The first {shown.shown:,} of {len(text):,} characters."
    assert len(shown.html) < 200


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 20_000, '"' + "\\" * 100_000, "," * 100_000, "[0" * 50_000])
def test_nothing_makes_it_run_for_ever_or_its_result_huge(text: str) -> None:
    # In a process of its own, since a search that goes back and forth in these could not be stopped otherwise.
    (length,) = run_processes(length_shown, [(text,)], timeout=60)
    assert length < 2_000_000


def length_shown(barrier: object, text: str) -> int:
    return len(document("", text, len(text), 100_000).html)
