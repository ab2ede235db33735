"""The API of messages: accept, show, list, mark as read."""

from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct, field

from services.contracts.problems import Problem
from services.message.acceptance import Acceptance, NewMessage
from services.message.messages import Message, Order
from services.message.reading import Reading
from services.message.store import ConversationStore, MessageStore
from services.message.views import (
    AcceptedView,
    MessageView,
    StatusView,
    accepted_view,
    message_view,
    status_view,
)
from services.runtime.http.pages import PAGE_LENGTH, Cursor, Limit, Page, cursor_of, position_of
from services.runtime.http.routes import Reply, endpoint

SEQ_MAX = 2**63 - 1
REPLAY_HEADER = "Idempotency-Replay"
API_KEY_ID_HEADER = "X-Api-Key-Id"
"""Set by the gateway: idempotency keys of different API keys have nothing to do with each other."""
SUGGESTED_ID_HEADER = "X-Suggested-Id"
"""Set by the gateway: the id of a message that has none, the same when the gateway repeats it."""


class AcceptHeaders(Struct, frozen=True):
    """By what a repeated request is known."""

    idempotency_key: (
        Annotated[
            str,
            Meta(
                max_length=255,
                pattern=r"\A[!-~]([ -~]*[!-~])?\Z",
                description="Repeated with the same key, a request is answered as the first time.",
            ),
        ]
        | None
    ) = field(name="Idempotency-Key", default=None)


class MessagePath(Struct, frozen=True):
    """Names a message."""

    message_id: UUID


class ReadMark(Struct, frozen=True, forbid_unknown_fields=True):
    """Who read; needed for an internal message, which each agent reads for themselves."""

    user_id: UUID | None = None


class ConversationPath(Struct, frozen=True):
    """Names a conversation."""

    conversation_id: UUID


class HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a history is wanted."""

    limit: Limit = PAGE_LENGTH
    cursor: Cursor | None = None
    order: Order = Order.ASC


class MessagesQuery(HistoryQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of which history is wanted."""

    conversation_id: UUID


class MessageRoutes:
    """Answers for messages."""

    def __init__(
        self,
        acceptance: Acceptance,
        messages: MessageStore,
        conversations: ConversationStore,
        reading: Reading,
    ) -> None:
        self._acceptance = acceptance
        self._messages = messages
        self._conversations = conversations
        self._reading = reading

    @endpoint(
        "POST",
        "/api/v1/messages",
        status=202,
        answer=AcceptedView,
        codes=(
            "in_progress",
            "message_id_conflict",
            "idempotency_key_conflict",
            "unknown_conversation",
            "unknown_user",
            "unknown_reply",
            "not_a_participant",
            "no_recipient",
            "unknown_channel",
            "channel_disabled",
            "no_identity",
        ),
        answer_headers={REPLAY_HEADER: "`true` when the message had been accepted before."},
    )
    async def accept(self, body: NewMessage, headers: AcceptHeaders, request: web.Request) -> Reply:
        """Take a message; the answer follows its durable storage and publication."""
        key = _idempotency_key(headers, request)
        message, repeated = await self._acceptance.accept(body, key, _suggested_id(request))
        replay = {REPLAY_HEADER: "true"} if repeated else {}
        return Reply(accepted_view(message), 202, replay)

    @endpoint("GET", "/api/v1/messages/{message_id}")
    async def show(self, path: MessagePath) -> MessageView:
        """Show a message."""
        return message_view(await self._find(path.message_id))

    @endpoint("GET", "/api/v1/messages/{message_id}/status")
    async def show_status(self, path: MessagePath) -> StatusView:
        """Show where each delivery of a message stands, and what led there."""
        return status_view(await self._find(path.message_id))

    @endpoint("POST", "/api/v1/messages/{message_id}/read")
    async def mark_read(self, path: MessagePath, body: ReadMark | None) -> MessageView:
        """Note that an agent read what a customer wrote, or an internal message to them."""
        user_id = body.user_id if body is not None else None
        return message_view(await self._reading.mark(path.message_id, user_id))

    @endpoint("GET", "/api/v1/messages", codes=("not_found",))
    async def list_messages(self, query: MessagesQuery) -> Page[MessageView]:
        """List the history of a conversation."""
        return await self._page(query.conversation_id, query)

    @endpoint("GET", "/api/v1/conversations/{conversation_id}/messages")
    async def list_history(self, path: ConversationPath, query: HistoryQuery) -> Page[MessageView]:
        """List the history of a conversation."""
        return await self._page(path.conversation_id, query)

    async def _find(self, message_id: UUID) -> Message:
        message = await self._messages.find(message_id)
        if message is None:
            raise Problem("not_found")
        return message

    async def _page(self, conversation_id: UUID, query: HistoryQuery) -> Page[MessageView]:
        listing = f"{conversation_id} {query.order}"
        after = position_of(query.cursor, listing, _seq) if query.cursor else None
        found = await self._messages.page(conversation_id, query.order, after, query.limit + 1)
        if not found and await self._conversations.find(conversation_id) is None:
            raise Problem("not_found", "There is no such conversation.")
        shown = found[: query.limit]
        more = len(found) > len(shown)
        return Page(
            [message_view(message) for message in shown],
            cursor_of(listing, str(shown[-1].seq)) if more else None,
        )


def _seq(position: str) -> int:
    seq = int(position)
    if not 0 <= seq <= SEQ_MAX:
        raise ValueError(seq)
    return seq


def _suggested_id(request: web.Request) -> UUID | None:
    given = request.headers.get(SUGGESTED_ID_HEADER)
    return UUID(given) if given else None


def _idempotency_key(headers: AcceptHeaders, request: web.Request) -> str | None:
    if headers.idempotency_key is None:
        return None
    return f"{request.headers.get(API_KEY_ID_HEADER, '')} {headers.idempotency_key}"
