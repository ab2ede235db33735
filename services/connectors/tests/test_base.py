"""What a provider echoes as our reference is foreign text."""

from uuid import UUID

import pytest

from services.connectors.base import PART_MAX, Reference

ID = UUID(int=7)


@pytest.mark.parametrize("part", [0, PART_MAX])
def test_a_reference_is_read_as_it_was_written(part: int) -> None:
    """Its text names the same delivery, part and attempt."""
    reference = Reference(message_id=ID, recipient_id=ID, part=part, attempt_id=ID)
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "ours",
        f"{ID}:{ID}:{ID}",
        f"{ID}:{ID}:1:{ID}:1",
        f"{ID}:{ID}:one:{ID}",
        f"{ID}:{ID}:-1:{ID}",
        f"{ID}:{ID}:{PART_MAX + 1}:{ID}",
        f"{ID}:{ID}:{'9' * 5000}:{ID}",
        f"{ID}:nobody:1:{ID}",
    ],
)
def test_other_texts_are_no_reference(text: str | None) -> None:
    """They name nothing, and are no error."""
    assert Reference.parse(text) is None
