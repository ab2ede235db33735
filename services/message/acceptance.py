"""Accepts a message: checked, its deliveries frozen, stored durably, published, in this order."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.contracts.channels import INTERNAL
from services.contracts.ids import new_id
from services.contracts.problems import Problem
from services.contracts.records import ChannelName
from services.contracts.status import Status, aggregate
from services.contracts.topics import CHAT_EVENTS, CONVERSATION_EVENTS
from services.message.cache import Cache
from services.message.conversations import Conversation
from services.message.deliveries import carrier, check_channel, choose, freeze, recipients_of
from services.message.history import History
from services.message.messages import Delivery, Direction, Message, fingerprint, now
from services.message.people import KnownPeople
from services.message.store import AT_ONCE_MAX, ConversationStore, MessageStore
from services.runtime.batches import Batches
from services.runtime.channels import Channels
from services.runtime.http.routes import Text
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.telemetry import metrics
from services.runtime.unavailable import Unavailable

CONVERSATIONS_MAX = 10_000
NAMES_MAX = 50_000
ACCEPTING_MAX = 256
ATTEMPTS_MAX = 4
"""How often a conversation may change its participants under one acceptance."""


class Guarantee(StrEnum):
    """What happens when a provider's answer is lost and nothing else tells what became of it."""

    AT_MOST_ONCE = "AT_MOST_ONCE"
    AT_LEAST_ONCE = "AT_LEAST_ONCE"


class NewMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client asks to have delivered."""

    conversation_id: UUID
    sender_id: UUID
    content: Text
    message_id: UUID | None = None
    channel: ChannelName | None = None
    reply_to: UUID | None = None
    guarantee: Guarantee = Guarantee.AT_MOST_ONCE


class Acceptance:
    """Turns requests into messages on their way; the same request twice into one message.

    Conversations are remembered without a time limit: the place in the history is taken on the
    condition that nobody joined or left since, and a refusal is made from a fresh reading.
    """

    def __init__(
        self,
        messages: MessageStore,
        conversations: ConversationStore,
        history: History,
        people: KnownPeople,
        channels: Channels,
        producer: Producer,
        sweep_after_s: float,
    ) -> None:
        self._messages = messages
        self._loads: Batches[UUID, Conversation | None] = Batches(
            conversations.find_many, AT_ONCE_MAX
        )
        self._history = history
        self._people = people
        self._channels = channels
        self._producer = producer
        self._sweep_after = timedelta(seconds=sweep_after_s)
        self._known: Cache[UUID, Conversation] = Cache(CONVERSATIONS_MAX)
        self._names: Cache[UUID | str, bool] = Cache(NAMES_MAX)
        self._accepting: set[UUID | str] = set()

    async def accept(
        self, body: NewMessage, idempotency_key: str | None, suggested_id: UUID | None = None
    ) -> tuple[Message, bool]:
        """Return the message, stored and published, and whether it had been accepted before.

        A message that does not name itself gets the suggested id.
        """
        message_id = body.message_id or suggested_id or new_id()
        names = {message_id, idempotency_key or message_id}
        if not names.isdisjoint(self._accepting):
            raise Problem("in_progress", retry_after_s=1)
        if len(self._accepting) >= ACCEPTING_MAX:
            raise Problem("unavailable", "Too many messages at once.", retry_after_s=1)
        self._accepting |= names
        try:
            message, repeated = await self._store(body, message_id, idempotency_key)
            if not repeated:
                metrics.messages_accepted.labels(message.channel).inc()
            if message.status is Status.PENDING:
                await publish(self._producer, [message])
            else:
                event = Outgoing(
                    CONVERSATION_EVENTS, str(message.conversation_id), message.changed()
                )
                await self._producer.publish([event])
        finally:
            self._accepting -= names
        return message, repeated

    async def _store(
        self, body: NewMessage, message_id: UUID, idempotency_key: str | None
    ) -> tuple[Message, bool]:
        """Store the message unless it is there; what was accepted once is not refused later."""
        if self._tried(message_id, idempotency_key):
            same = await self._messages.find_same(message_id, idempotency_key)
            if same is not None:
                return check_repeated(body, same), True
        for attempt in range(ATTEMPTS_MAX):
            remembered = self._known.get(body.conversation_id) if attempt == 0 else None
            try:
                conversation = remembered or await self._load(body.conversation_id)
                message = await self._plan(body, conversation, message_id, idempotency_key)
            except Problem:
                if remembered is not None:
                    continue
                same = await self._messages.find_same(message_id, idempotency_key)
                if same is None:
                    raise
                return check_repeated(body, same), True
            stored = await self._history.append(message, conversation.version)
            if stored is not None and stored.is_new:
                return stored.message, False
            if stored is not None:
                return check_repeated(body, stored.message), True
        raise Unavailable("conversation", "its participants keep changing")

    def _tried(self, *names: UUID | str | None) -> bool:
        """Tell whether one of these names was tried here before, and note that it was.

        Otherwise it shows when the message is stored, which spares the look-up for new ones.
        """
        given = [name for name in names if name is not None]
        tried = any(self._names.get(name) for name in given)
        for name in given:
            self._names.put(name, value=True)
        return tried

    async def _load(self, conversation_id: UUID) -> Conversation:
        asked_at = asyncio.get_running_loop().time()
        conversation = await self._loads.add(conversation_id)
        if conversation is None:
            raise Problem(
                "unknown_conversation", "Create the conversation first.", field="conversation_id"
            )
        self._known.put(conversation_id, conversation)
        self._history.learn(conversation, asked_at)
        return conversation

    async def _plan(
        self,
        body: NewMessage,
        conversation: Conversation,
        message_id: UUID,
        idempotency_key: str | None,
    ) -> Message:
        """Return the message as it will be stored, all but its place in the history."""
        await self._check_sender(body.sender_id, conversation)
        channel = body.channel or conversation.primary_channel
        check_channel(channel, self._channels)
        recipients = recipients_of(conversation, body.sender_id, channel)
        await self._check_reply(body, conversation)
        accepted_at = now()
        deliveries = await self._deliveries(body, channel, recipients, accepted_at)
        channel = carrier(deliveries, channel)
        return Message(
            id=message_id,
            conversation_id=conversation.id,
            seq=0,
            direction=Direction.OUTBOUND,
            sender_id=body.sender_id,
            channel=channel,
            accepted_at=accepted_at,
            status=aggregate(delivery.status for delivery in deliveries),
            rev=1,
            content=body.content,
            account=conversation.account_on(channel),
            reply_to=body.reply_to,
            deliveries=deliveries,
            at_least_once=body.guarantee is Guarantee.AT_LEAST_ONCE,
            body_hash=_body_hash(body),
            idempotency_key=idempotency_key,
            sweep_at=accepted_at + self._sweep_after,
        )

    async def _deliveries(
        self,
        body: NewMessage,
        channel: str,
        recipients: tuple[UUID, ...],
        accepted_at: datetime,
    ) -> tuple[Delivery, ...]:
        """Return the deliveries; without a channel in the request each where they are reached."""
        if channel == INTERNAL:
            return freeze([(one, channel) for one in recipients], {}, accepted_at)
        people = await self._people.reachable(recipients, channel)
        if body.channel is not None:
            return freeze([(one, channel) for one in recipients], people, accepted_at)
        usable = self._channels.usable
        chosen = [(one, choose(people.get(one), channel, usable)) for one in recipients]
        return freeze(chosen, people, accepted_at)

    async def _check_sender(self, sender_id: UUID, conversation: Conversation) -> None:
        if conversation.participant(sender_id) is not None:
            return
        if sender_id not in await self._people.find([sender_id]):
            raise Problem("unknown_user", "Create the sender first.", field="sender_id")

    async def _check_reply(self, body: NewMessage, conversation: Conversation) -> None:
        if body.reply_to is None:
            return
        original = await self._messages.find(body.reply_to)
        if original is None or original.conversation_id != conversation.id:
            raise Problem("unknown_reply", field="reply_to")


async def publish(producer: Producer, messages: Sequence[Message]) -> None:
    """Send stored messages on their way; twice does no harm, the ledger knows what it has."""
    await producer.publish(
        [
            Outgoing(CHAT_EVENTS, str(message.conversation_id), message.accepted())
            for message in messages
        ]
    )


def check_repeated(body: NewMessage, same: Message) -> Message:
    """Return what was accepted under a body's names; raise the Problem when it is another."""
    named_by_id = body.message_id == same.id
    if _body_hash(body) == same.body_hash and (named_by_id or body.message_id is None):
        return same
    if named_by_id:
        raise Problem("message_id_conflict", "Give the new message another id.", field="message_id")
    raise Problem("idempotency_key_conflict", "Give the new message another key.")


def _body_hash(body: NewMessage) -> str:
    return fingerprint(replace(body, message_id=None))
