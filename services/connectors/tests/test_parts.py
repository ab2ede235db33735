"""How a text is split, and what the parts of a delivery add up to."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.parts import Part, Standing, combine, split
from services.contracts.records import Reason
from services.contracts.status import OUTCOME_UNKNOWN, Status, rank

CLUSTERS = ("a", "é", "e\u0301", "中", "👋", "👍🏽", "❤️", "🇧🇷", "👨‍👩‍👧‍👦", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "कि")
MEASURES = {
    "characters": len,
    "utf-16 units": lambda text: len(text.encode("utf-16-le")) // 2,
    "bytes": lambda text: len(text.encode()),
}
REASON = Reason("code", "Detail.")


@pytest.mark.parametrize("size_of", MEASURES.values(), ids=MEASURES)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])), limit=st.integers(4, 30))
def test_parts_fit_and_are_the_text_again(
    size_of: Callable[[str], int], text: str, limit: int
) -> None:
    """Whatever the text, the unit and the limit: nothing is lost, and every part fits."""
    parts = split(text, lambda part: size_of(part) <= limit)
    assert "".join(parts) == text
    assert all(size_of(part) <= limit for part in parts)
    assert all(parts) or parts == [""]


@given(st.lists(st.sampled_from(CLUSTERS), min_size=50, max_size=150), st.integers(40, 60))
def test_what_is_drawn_as_one_character_stays_whole(clusters: list[str], limit: int) -> None:
    """A cut falls between the characters that people see."""
    text = "".join(clusters)
    places = {len("".join(clusters[:count])) for count in range(len(clusters) + 1)}
    end = 0
    for part in split(text, lambda part: len(part) <= limit):
        end += len(part)
        assert end in places


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("", 4, [""]),
        ("abcd", 4, ["abcd"]),
        ("ab cd ef", 6, ["ab cd ", "ef"]),
        ("abc\nd ef", 6, ["abc\n", "d ef"]),
        ("a bcdefgh", 6, ["a bcde", "fgh"]),
        ("abcdef  \n", 6, ["abcde", "f  \n"]),
        ("abc def\n\n", 7, ["abc ", "def\n\n"]),
        ("x" * 12, 5, ["x" * 5, "x" * 5, "xx"]),
    ],
)
def test_a_cut_is_behind_a_line_or_a_word(text: str, limit: int, parts: list[str]) -> None:
    """Lines are kept before words, words before letters, and the end is no part of spaces."""
    assert split(text, lambda part: len(part) <= limit) == parts


def test_a_character_that_never_fits_ends_the_splitting() -> None:
    """What no part can hold is left to the provider to refuse."""
    assert split("👋👋", lambda part: len(part.encode()) <= 3) == ["👋", "👋"]


def part(number: int, state: str, **more: object) -> Part:
    """Return a part in a state."""
    return Part(part=number, state=state, **more)  # type: ignore[arg-type]


DELIVERED, READ = rank(Status.DELIVERED), rank(Status.READ)
GIVEN_UP = Reason(OUTCOME_UNKNOWN, "No evidence.")
SUMS = {
    "one sent": ([part(0, "sent")], Standing(Status.SENT, 0)),
    "one read": ([part(0, "sent", proven=READ)], Standing(Status.READ, 0)),
    "one failed": ([part(0, "failed", reason=REASON)], Standing(Status.FAILED, 0, REASON)),
    "not all sent": ([part(0, "sent"), part(1, "pending")], Standing(None, 0)),
    "not all delivered": (
        [part(0, "sent", proven=READ), part(1, "sent"), part(2, "sent", proven=DELIVERED)],
        Standing(Status.SENT, 0),
    ),
    "all delivered": (
        [part(0, "sent", proven=READ), part(1, "sent", proven=DELIVERED)],
        Standing(Status.DELIVERED, 0),
    ),
    "one of two failed": (
        [part(0, "sent", proven=READ), part(1, "failed", reason=REASON)],
        Standing(Status.FAILED, 0, Reason("code", "Part 2 of 2: Detail.")),
    ),
    "unknown before pending": (
        [part(0, "unknown", reason=REASON), part(1, "pending")],
        Standing(Status.UNKNOWN, 0, Reason("code", "Part 1 of 2: Detail.")),
    ),
    "certain failure before lack of evidence": (
        [part(0, "failed", reason=GIVEN_UP), part(1, "failed", reason=REASON)],
        Standing(Status.FAILED, 0, Reason("code", "Part 2 of 2: Detail.")),
    ),
    "the replay of one is the replay of all": (
        [part(0, "sent", proven=READ), part(1, "sent", proven=READ, replay_no=2)],
        Standing(Status.READ, 2),
    ),
}


@pytest.mark.parametrize(("parts", "standing"), SUMS.values(), ids=SUMS)
def test_a_delivery_is_what_its_parts_add_up_to(parts: list[Part], standing: Standing) -> None:
    """It is as far as the part that is furthest behind, and failed with any of them."""
    assert combine(parts) == standing
