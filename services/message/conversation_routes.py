"""The API of conversations: open, show, list, who takes part, archive."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from services.contracts.channels import INTERNAL
from services.contracts.ids import new_id
from services.contracts.people import Person
from services.contracts.problems import Problem
from services.message.conversations import (
    PARTICIPANTS_MAX,
    PARTICIPANTS_MIN,
    Conversation,
    Participant,
    check_participants,
    open_conversation,
)
from services.message.history import History
from services.message.messages import now
from services.message.people import KnownPeople
from services.message.routes import ConversationPath
from services.message.store import ConversationStore
from services.message.views import ConversationView, conversation_view
from services.runtime.channels import Channels
from services.runtime.http.pages import PAGE_LENGTH, Cursor, Limit, Page, cursor_of, position_of
from services.runtime.http.routes import Channel, Label, endpoint


class NewConversation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to talk, and on which channel unless a message says otherwise."""

    participants: Annotated[
        list[UUID],
        Meta(
            min_length=PARTICIPANTS_MIN,
            max_length=PARTICIPANTS_MAX,
            extra_json_schema={"uniqueItems": True},
        ),
    ]
    primary_channel: Channel
    title: Label | None = None


class NewParticipant(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to take part."""

    user_id: UUID


class ParticipantPath(ConversationPath, frozen=True):
    """Names somebody in a conversation."""

    user_id: UUID


class ConversationsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which conversations are wanted."""

    limit: Limit = PAGE_LENGTH
    cursor: Cursor | None = None
    participant_id: UUID | None = None


class ConversationRoutes:
    """Answers for conversations."""

    def __init__(
        self,
        conversations: ConversationStore,
        history: History,
        people: KnownPeople,
        channels: Channels,
    ) -> None:
        self._conversations = conversations
        self._history = history
        self._people = people
        self._channels = channels

    @endpoint(
        "POST", "/api/v1/conversations", status=201, codes=("unknown_channel", "unknown_user")
    )
    async def open(self, body: NewConversation) -> ConversationView:
        """Open a conversation among people who exist."""
        check_participants(body.participants)
        if body.primary_channel not in (INTERNAL, *self._channels.states):
            raise Problem(
                "unknown_channel", "Choose one of GET /api/v1/channels.", field="primary_channel"
            )
        people = await self._people.find(body.participants)
        conversation = open_conversation(
            new_id(),
            [
                _known(people, user_id, f"participants[{index}]")
                for index, user_id in enumerate(body.participants)
            ],
            body.primary_channel,
            now(),
            title=body.title,
        )
        await self._conversations.insert(conversation)
        return conversation_view(conversation)

    @endpoint("GET", "/api/v1/conversations")
    async def list_conversations(self, query: ConversationsQuery) -> Page[ConversationView]:
        """List conversations, the newest first."""
        listing = f"conversations {query.participant_id}"
        after = position_of(query.cursor, listing, UUID) if query.cursor else None
        await self._history.counted()
        found = await self._conversations.page(query.participant_id, after, query.limit + 1)
        shown = found[: query.limit]
        more = len(found) > len(shown)
        return Page(
            [conversation_view(conversation) for conversation in shown],
            cursor_of(listing, str(shown[-1].id)) if more else None,
        )

    @endpoint("GET", "/api/v1/conversations/{conversation_id}")
    async def show(self, path: ConversationPath) -> ConversationView:
        """Show a conversation."""
        await self._history.counted()
        return conversation_view(await self._find(path.conversation_id))

    @endpoint(
        "POST", "/api/v1/conversations/{conversation_id}/participants", codes=("unknown_user",)
    )
    async def add_participant(
        self, path: ConversationPath, body: NewParticipant
    ) -> ConversationView:
        """Let somebody take part; somebody who does already changes nothing."""
        people = await self._people.find([body.user_id])
        person = _known(people, body.user_id, "user_id")
        participant = Participant(user_id=person.user_id, kind=person.kind, joined_at=now())
        changed = await self._conversations.add_participant(path.conversation_id, participant)
        conversation = changed or await self._find(path.conversation_id)
        if conversation.participant(body.user_id) is None:
            raise Problem(
                "invalid_field",
                f"At most {PARTICIPANTS_MAX} people take part; remove somebody first.",
                field="user_id",
            )
        await self._history.fence(path.conversation_id)
        return conversation_view(conversation)

    @endpoint("DELETE", "/api/v1/conversations/{conversation_id}/participants/{user_id}")
    async def remove_participant(self, path: ParticipantPath) -> None:
        """Let somebody take part no more."""
        left = await self._conversations.remove_participant(path.conversation_id, path.user_id)
        if left is None:
            await self._find(path.conversation_id)
        await self._history.fence(path.conversation_id)
        if left is None:
            raise Problem("not_found")

    @endpoint("POST", "/api/v1/conversations/{conversation_id}/archive")
    async def archive(self, path: ConversationPath) -> ConversationView:
        """Archive a conversation; its next message brings it back."""
        await self._history.counted()
        archived = await self._conversations.archive(path.conversation_id, now())
        if archived is None:
            raise Problem("not_found")
        return conversation_view(archived)

    async def _find(self, conversation_id: UUID) -> Conversation:
        conversation = await self._conversations.find(conversation_id)
        if conversation is None:
            raise Problem("not_found")
        return conversation


def _known(people: dict[UUID, Person], user_id: UUID, field: str) -> Person:
    if user_id not in people:
        raise Problem("unknown_user", f"Create user {user_id} first.", field=field)
    return people[user_id]
