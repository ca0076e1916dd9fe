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


def length_shown(barrier: object, text: str) -> int:
    return len(document("", text, len(text), 100_000).html)


class TestFormat:
    @given(JSON, st.booleans())
    def test_indentation_equals_that_of_python(self, value: Any, spaced: bool) -> None:
        stored = json.dumps(value, ensure_ascii=False, separators=None if spaced else (",", ":"))
        if "\r" not in stored and "\x00" not in stored:  # an HTML parser replaces these
            assert readable(stored) == json.dumps(value, ensure_ascii=False, indent=2)

    @pytest.mark.parametrize("number", ["1.10", "1e400", "-0.0", "12345678901234567890.123456789"])
    def test_numbers_keep_their_stored_form(self, number: str) -> None:
        assert readable(f'{{"amount":{number}}}') == f'{{\n  "amount": {number}\n}}'

    def test_only_keys_are_marked(self) -> None:
        page = Page(document("", '{"a": "b", "c": ["d"]}', 22, 1_000).html)
        assert [key.text for key in page.all("span.es-key")] == ['"a"', '"c"']


class TestLimit:
    @given(JSON, st.integers(0, 60))
    def test_truncated_document_is_formatted_without_loss(self, value: Any, length: int) -> None:
        stored = json.dumps(value, ensure_ascii=False)
        beginning = stored[:length]
        shown = document("", beginning, len(stored), 1_000)
        assert shown.is_cut == (len(beginning) < len(stored))
        assert "".join(readable(beginning).split()) == "".join(beginning.split())

    def test_long_document_is_cut_with_a_note(self) -> None:
        text = json.dumps(list(range(1_000)))
        shown = document("", text, len(text), 100)
        assert shown.is_cut
        assert shown.cut_note == f"The first {shown.shown:,} of {len(text):,} characters."
        assert len(shown.html) < 200

    @pytest.mark.parametrize(
        "text", ["[" * 100_000, '{"a":' * 20_000, '"' + "\\" * 100_000, "," * 100_000, "[0" * 50_000]
    )
    def test_hostile_text_is_formatted_in_bounded_time_and_length(self, text: str) -> None:
        # A regular expression that backtracks cannot be interrupted in this process, but a process can be killed.
        (length,) = run_processes(length_shown, [(text,)], timeout=60)
        assert length < 2_000_000
