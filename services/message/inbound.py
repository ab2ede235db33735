"""Stores what customers write: each message once, in the conversation it belongs to."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from services.contracts.ids import inbound_id, new_id
from services.contracts.people import ContactQuery, Person
from services.contracts.records import MessageReceived
from services.contracts.status import Status
from services.contracts.topics import CONVERSATION_EVENTS
from services.message.conversations import Conversation, open_conversation
from services.message.history import History
from services.message.messages import Direction, Message, now
from services.message.people import KnownPeople
from services.message.store import ConversationStore, MessageStore
from services.runtime.kafka.consumer import Received, by_lane
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.mongo import NAME as MONGODB
from services.runtime.unavailable import Unavailable

PAIR = 2
AT_ONCE_MAX = 32
"""How many customers' messages are worked on side by side."""


class InboundConsumer:
    """Finds or opens the customer's conversation and puts the message into its history."""

    def __init__(
        self,
        messages: MessageStore,
        conversations: ConversationStore,
        history: History,
        people: KnownPeople,
        producer: Producer,
    ) -> None:
        self._messages = messages
        self._conversations = conversations
        self._history = history
        self._people = people
        self._producer = producer
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def handle(self, batch: Sequence[Received]) -> None:
        """Return when every message is stored and told to those who watch its conversation."""
        await by_lane(batch, _lane, self._work)

    async def _work(self, received: Received) -> None:
        record = received.record
        if not isinstance(record, MessageReceived):
            raise TypeError(f"{type(record).__name__} is no inbound message")
        async with self._turns:
            message = await self._store(record)
            event = Outgoing(CONVERSATION_EVENTS, str(message.conversation_id), message.changed())
            await self._producer.publish([event])

    async def _store(self, record: MessageReceived) -> Message:
        message_id = inbound_id(record.channel, record.account, record.provider_message_id)
        known = await self._messages.find(message_id)
        if known is not None:
            return known
        person = await self._people.contact(_question(record))
        conversation = await self._conversation(record, person)
        message = Message(
            id=message_id,
            conversation_id=conversation.id,
            seq=0,
            direction=Direction.INBOUND,
            sender_id=person.user_id,
            channel=record.channel,
            accepted_at=now(),
            status=Status.DELIVERED,
            rev=1,
            content=record.content,
            account=record.account,
            reply_to=record.reply_to,
            provider_message_id=record.provider_message_id,
            provider_at=record.provider_at,
            raw=record.raw,
        )
        stored = await self._history.append(message)
        if stored is None:
            raise Unavailable(MONGODB, "a conversation vanished")
        return stored.message

    async def _conversation(self, record: MessageReceived, person: Person) -> Conversation:
        await self._history.counted()
        answered = await self._answered(record.reply_to, person.user_id)
        found = answered or await self._conversations.find_contact(
            person.user_id, record.channel, record.account
        )
        if found is not None:
            await self._learn_account(found, record)
            return found
        opened = await self._conversations.open_contact(
            open_conversation(
                new_id(),
                [person],
                record.channel,
                now(),
                account=record.account,
                contact_key=f"{record.channel} {record.account} {person.user_id}",
            )
        )
        if opened is None:
            raise Unavailable(MONGODB, "a conversation gave up its key just now")
        return opened

    async def _learn_account(self, talk: Conversation, record: MessageReceived) -> None:
        """Let answers go through the account that the customer wrote to; a group has several."""
        if len(talk.participants) > PAIR or talk.account_on(record.channel) is not None:
            return
        await self._conversations.learn_account(talk.id, record.channel, record.account)
        await self._history.fence(talk.id)

    async def _answered(self, reply_to: UUID | None, user_id: UUID) -> Conversation | None:
        original = await self._messages.find(reply_to) if reply_to is not None else None
        if original is None:
            return None
        conversation = await self._conversations.find(original.conversation_id)
        takes_part = conversation is not None and conversation.participant(user_id) is not None
        return conversation if takes_part else None


def _question(record: MessageReceived) -> ContactQuery:
    return ContactQuery(
        channel=record.channel,
        account=record.account,
        account_scoped=record.account_scoped,
        address=record.address,
        name=record.sender_name,
    )


def _lane(received: Received) -> object:
    record = received.record
    if isinstance(record, MessageReceived):
        return record.channel, record.account, record.address
    return received.offset
