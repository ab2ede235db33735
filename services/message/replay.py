"""Decides about dead letters: sends them again, at the tail of their lanes, or drops them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.contracts.problems import Problem
from services.contracts.records import Poison, StatusChanged, decode
from services.contracts.status import Status
from services.contracts.topics import CONVERSATION_EVENTS, SHARED
from services.message.acceptance import publish
from services.message.letters import (
    Action,
    DeadDelivery,
    DeadRecord,
    Letter,
    LetterState,
    LetterStore,
)
from services.message.messages import Message, now
from services.message.statuses import fold
from services.message.store import MessageStore
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.mongo import NAME as MONGODB
from services.runtime.unavailable import Unavailable

ROUNDS_MAX = 10
"""How often others may change the same message meanwhile."""


class Replay:
    """Acts on letters. Done twice it sends once: the ledger knows each replay by its number."""

    def __init__(self, letters: LetterStore, messages: MessageStore, producer: Producer) -> None:
        self._letters = letters
        self._messages = messages
        self._producer = producer

    async def replay(self, letters: Sequence[Letter], actor: str) -> list[Letter]:
        """Send letters again, those of one conversation in their original order.

        Raises the Problem, and sends nothing more, at the first that cannot be replayed.
        """
        done = []
        for letter in sorted(letters, key=_place):
            if letter.state is not LetterState.OPEN:
                raise Problem("already_resolved", f"Letter {letter.id} is {letter.state}.")
            if letter.delivery is not None:
                await self._send_delivery(letter.delivery)
            if letter.record is not None:
                await self._send_record(letter.record)
            action = Action(action="replay", at=now(), actor=actor)
            closed = await self._letters.resolve(letter.id, LetterState.REPLAYED, action)
            done.append(closed or letter)
        return done

    async def drop(self, letter_id: UUID, actor: str, reason: str) -> Letter:
        """Close a letter without sending it; raise the Problem when it is not open."""
        action = Action(action="drop", at=now(), actor=actor, reason=reason)
        closed = await self._letters.resolve(letter_id, LetterState.DROPPED, action)
        if closed is not None:
            return closed
        if await self._letters.find(letter_id) is None:
            raise Problem("not_found")
        raise Problem("already_resolved")

    async def _send_delivery(self, dead: DeadDelivery) -> None:
        message = await self._pending_again(dead)
        await publish(self._producer, [message])
        event = Outgoing(CONVERSATION_EVENTS, str(message.conversation_id), message.changed())
        await self._producer.publish([event])

    async def _pending_again(self, dead: DeadDelivery) -> Message:
        """Return the message with the delivery pending under the next replay number, stored."""
        for _ in range(ROUNDS_MAX):
            message = await self._messages.find(dead.message_id)
            if message is None:
                raise Problem("not_replayable", "Its message does not exist any more.")
            again = fold(message, [_pending(dead)])
            if again is message:
                return message
            await self._messages.postpone([message], now())
            if await self._messages.replace_deliveries([(message, again)]):
                return again
        raise Unavailable(MONGODB, "others keep changing the same message")

    async def _send_record(self, dead: DeadRecord) -> None:
        if dead.topic not in SHARED:
            raise Problem("not_replayable", f"It came from {dead.topic}.")
        try:
            record = decode(dead.value)
        except Poison as error:
            raise Problem("not_replayable", "No version of this platform can read it.") from error
        await self._producer.publish([Outgoing(dead.topic, dead.key.decode(), record)])


def _place(letter: Letter) -> tuple[str, int, datetime]:
    if letter.delivery is None:
        return "", 0, letter.at
    return str(letter.delivery.conversation_id), letter.delivery.seq, letter.at


def _pending(dead: DeadDelivery) -> StatusChanged:
    at = now()
    return StatusChanged(
        message_id=dead.message_id,
        conversation_id=dead.conversation_id,
        recipient_id=dead.recipient_id,
        channel=dead.channel,
        status=Status.PENDING,
        at=at,
        observed_at=at,
        replay_no=dead.replay_no + 1,
    )
