"""The API of dead letters: list, show, replay, drop."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from services.contracts.problems import Problem
from services.contracts.records import Reason
from services.contracts.times import rfc3339
from services.message.letters import (
    DeadDelivery,
    Filter,
    Letter,
    LetterState,
    LetterStore,
    Place,
)
from services.message.replay import Replay
from services.message.routes import API_KEY_ID_HEADER
from services.runtime.http.pages import PAGE_LENGTH, Cursor, Limit, Page, cursor_of, position_of
from services.runtime.http.routes import Channel, Label, Timestamp, endpoint

REPLAY_MAX = 100
_REPLAYING = ("already_resolved", "not_replayable")


class LetterPath(Struct, frozen=True):
    """Names a dead letter."""

    letter_id: UUID


class LettersQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters are wanted."""

    limit: Limit = PAGE_LENGTH
    cursor: Cursor | None = None
    state: LetterState | None = None
    channel: Channel | None = None
    conversation_id: UUID | None = None
    code: Label | None = None


class ReplayLetters(Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters are to be sent again."""

    letter_ids: Annotated[list[UUID], Meta(min_length=1, max_length=REPLAY_MAX)]


class DropLetter(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a dead letter is given up."""

    reason: Label


class AttemptView(Struct, frozen=True):
    """An attempt that failed."""

    at: Timestamp
    code: str
    detail: str


class ActionView(Struct, frozen=True):
    """Who decided what about a dead letter."""

    action: str
    at: Timestamp
    actor: str
    reason: str | None


class RecordView(Struct, frozen=True):
    """Where a dead record stood; what it says stays out of it."""

    topic: str
    partition: int
    offset: int


class LetterView(Struct, frozen=True, kw_only=True):
    """A dead letter: a delivery that failed, or a record that nobody could read or route."""

    letter_id: UUID
    state: LetterState
    at: Timestamp
    reason: Reason
    attempts: list[AttemptView]
    actions: list[ActionView]
    delivery: DeadDelivery | None
    record: RecordView | None


class LettersView(Struct, frozen=True):
    """Dead letters that were acted on."""

    items: list[LetterView]


class LetterRoutes:
    """Answers for dead letters."""

    def __init__(self, letters: LetterStore, replay: Replay) -> None:
        self._letters = letters
        self._replay = replay

    @endpoint("GET", "/api/v1/dead-letters")
    async def list_letters(self, query: LettersQuery) -> Page[LetterView]:
        """List dead letters, the newest first."""
        wanted = Filter(
            state=query.state,
            channel=query.channel,
            conversation_id=query.conversation_id,
            code=query.code,
        )
        after = position_of(query.cursor, "dead-letters", _place) if query.cursor else None
        found = await self._letters.page(wanted, after, query.limit + 1)
        shown = found[: query.limit]
        more = len(found) > len(shown)
        last = f"{shown[-1].at.isoformat()}/{shown[-1].id}" if more else ""
        return Page(
            [letter_view(letter) for letter in shown],
            cursor_of("dead-letters", last) if more else None,
        )

    @endpoint("GET", "/api/v1/dead-letters/{letter_id}")
    async def show(self, path: LetterPath) -> LetterView:
        """Show a dead letter with every attempt and decision."""
        return letter_view(await self._find(path.letter_id))

    @endpoint("POST", "/api/v1/dead-letters/{letter_id}/replay", codes=_REPLAYING)
    async def replay(self, path: LetterPath, request: web.Request) -> LetterView:
        """Send a dead letter again, at the tail of its conversation."""
        letter = await self._find(path.letter_id)
        return letter_view((await self._replay.replay([letter], _actor(request)))[0])

    @endpoint("POST", "/api/v1/dead-letters/batch/replay", codes=("not_found", *_REPLAYING))
    async def replay_many(self, body: ReplayLetters, request: web.Request) -> LettersView:
        """Send several dead letters again, those of one conversation in their original order."""
        letters = [await self._find(letter_id) for letter_id in dict.fromkeys(body.letter_ids)]
        done = await self._replay.replay(letters, _actor(request))
        return LettersView([letter_view(letter) for letter in done])

    @endpoint("POST", "/api/v1/dead-letters/{letter_id}/drop", codes=("already_resolved",))
    async def drop(self, path: LetterPath, body: DropLetter, request: web.Request) -> LetterView:
        """Give a dead letter up."""
        return letter_view(await self._replay.drop(path.letter_id, _actor(request), body.reason))

    async def _find(self, letter_id: UUID) -> Letter:
        letter = await self._letters.find(letter_id)
        if letter is None:
            raise Problem("not_found", f"There is no dead letter {letter_id}.")
        return letter


def letter_view(letter: Letter) -> LetterView:
    """Show a dead letter."""
    record = letter.record
    return LetterView(
        letter_id=letter.id,
        state=letter.state,
        at=rfc3339(letter.at),
        reason=letter.reason,
        attempts=[AttemptView(rfc3339(one.at), one.code, one.detail) for one in letter.attempts],
        actions=[
            ActionView(one.action, rfc3339(one.at), one.actor, one.reason) for one in letter.actions
        ],
        delivery=letter.delivery,
        record=RecordView(record.topic, record.partition, record.offset) if record else None,
    )


def _actor(request: web.Request) -> str:
    return request.headers.get(API_KEY_ID_HEADER, "internal")


def _place(position: str) -> Place:
    at, _, letter_id = position.partition("/")
    return datetime.fromisoformat(at), UUID(letter_id)
