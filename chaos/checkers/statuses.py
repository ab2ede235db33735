"""A message's status never goes back: judged from what clients were shown one after the other."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct

from services.contracts.status import Status, rank


class StatusSeen(Struct, frozen=True, kw_only=True):
    """What the API showed of one delivery at a time."""

    message_id: UUID
    recipient_id: str
    at: float
    status: Status
    reason: str | None = None
    replay_no: int = 0


def went_back(seen: Sequence[StatusSeen]) -> list[tuple[StatusSeen, StatusSeen]]:
    """Return each pair of looks at a delivery of which the later one showed less."""
    last: dict[tuple[UUID, str], StatusSeen] = {}
    found = []
    for look in sorted(seen, key=lambda s: s.at):
        key = (look.message_id, look.recipient_id)
        before = last.get(key)
        if before is not None and _place(look) < _place(before):
            found.append((before, look))
        last[key] = look
    return found


def _place(look: StatusSeen) -> tuple[int, int]:
    return look.replay_no, rank(look.status, look.reason)
