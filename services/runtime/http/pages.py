"""Pages of a list: an opaque cursor says where the next one begins."""

import base64
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

from services.contracts.problems import Problem

PAGE_LENGTH = 50
Limit = Annotated[int, Meta(ge=1, le=100, description="How many items at most.")]
Cursor = Annotated[str, Meta(max_length=200, description="The next_cursor of the page before.")]
T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """Part of a list and where the rest begins; no cursor means that it ends here."""

    items: list[T]
    next_cursor: str | None


def cursor_of(listing: str, position: str) -> str:
    """Return the cursor that goes on behind a position of a listing."""
    return base64.urlsafe_b64encode(f"{listing} {position}".encode()).decode().rstrip("=")


def position_of(cursor: str, listing: str, parse: Callable[[str], T]) -> T:
    """Return the position in a cursor; raise the Problem when it is not of this listing."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        name, _, position = text.rpartition(" ")
        if name == listing:
            return parse(position)
    except ValueError:
        pass
    raise Problem(
        "invalid_query", "Take the cursor from next_cursor of the same list.", field="cursor"
    )
