"""Notes who read what: a customer's message by us, an internal one by each agent it went to."""

from uuid import UUID

from services.contracts.channels import INTERNAL
from services.contracts.problems import Problem
from services.contracts.records import StatusChanged
from services.contracts.status import Status
from services.contracts.topics import CONVERSATION_EVENTS
from services.message.messages import Direction, Message, now
from services.message.statuses import fold, targets
from services.message.store import MessageStore
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.mongo import NAME as MONGODB
from services.runtime.unavailable import Unavailable

ROUNDS_MAX = 10
"""How often others may change the same message meanwhile."""


class Reading:
    """Marks messages as read and tells who watches; again changes nothing."""

    def __init__(self, messages: MessageStore, producer: Producer) -> None:
        self._messages = messages
        self._producer = producer

    async def mark(self, message_id: UUID, user_id: UUID | None) -> Message:
        """Return the message, read; raise the Problem when it cannot be read by this user."""
        message = await self._messages.find(message_id)
        if message is None:
            raise Problem("not_found")
        if message.direction is Direction.INBOUND:
            read = await self._messages.mark_read(message_id, now()) or message
        else:
            read = await self._by_recipient(message, user_id)
        event = Outgoing(CONVERSATION_EVENTS, str(read.conversation_id), read.changed())
        await self._producer.publish([event])
        return read

    async def _by_recipient(self, message: Message, user_id: UUID | None) -> Message:
        if user_id is None or (user_id, INTERNAL) not in targets(message):
            raise Problem(
                "invalid_field",
                "Only a customer's message, or an internal one by whom it went to, is read here.",
                field="user_id",
            )
        for _ in range(ROUNDS_MAX):
            at = now()
            evidence = StatusChanged(
                message_id=message.id,
                conversation_id=message.conversation_id,
                recipient_id=user_id,
                channel=INTERNAL,
                status=Status.READ,
                at=at,
                observed_at=at,
            )
            read = fold(message, [evidence])
            if read is message or await self._messages.replace_deliveries([(message, read)]):
                return read
            message = await self._messages.find(message.id) or message
        raise Unavailable(MONGODB, "others keep changing the same message")
