"""Cursors come back as they were given, and no others."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.problems import Problem
from services.runtime.http.pages import cursor_of, position_of


@given(st.integers())
def test_a_cursor_names_its_place(seq: int) -> None:
    """The place in a cursor is the one it was made of."""
    assert position_of(cursor_of("history asc", str(seq)), "history asc", int) == seq


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "äöü",
        "=",
        cursor_of("history desc", "1"),
        cursor_of("history asc", "one"),
        base64.b64encode(b"\xff\xfe").decode(),
    ],
)
def test_another_cursor_is_refused(cursor: str) -> None:
    """A cursor of another list, or of no list, is a bad query."""
    with pytest.raises(Problem) as refusal:
        position_of(cursor, "history asc", int)
    assert refusal.value.code == "invalid_query"


@given(st.text(max_size=50))
def test_no_text_breaks_the_reading_of_a_cursor(text: str) -> None:
    """Whatever is sent as a cursor is a place or a problem."""
    with pytest.raises(Problem):
        position_of(text, "history asc", int)
