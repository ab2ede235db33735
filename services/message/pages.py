"""Pages of a list: an opaque cursor says where the next one begins."""

import base64
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeVar

from msgspec import Meta

from services.contracts.problems import Problem

PAGE_LENGTH = 50
SEQ_MAX = 2**63 - 1
Limit = Annotated[int, Meta(ge=1, le=100)]
Cursor = Annotated[str, Meta(max_length=200)]
T = TypeVar("T")


class Order(StrEnum):
    """Which end of a history comes first."""

    ASC = "asc"
    DESC = "desc"


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


def seq_of(position: str) -> int:
    """Read a place in a history; raise ValueError when there is no such place."""
    seq = int(position)
    if not 0 <= seq <= SEQ_MAX:
        raise ValueError(seq)
    return seq
