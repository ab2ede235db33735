"""An open-loop load: messages leave on schedule, however the platform is doing."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle
from uuid import uuid4

import aiohttp
from msgspec import Struct

from chaos.adapters import NO_ANSWER
from chaos.adapters.api import Api
from chaos.history import Outcome, Send

PREPARE_CONCURRENCY = 8


class Lane(Struct, frozen=True, kw_only=True):
    """A conversation with one customer, and the address the provider will see."""

    conversation_id: str
    sender_id: str
    address: str


async def prepare(api: Api, channel: str, conversations: int) -> list[Lane]:
    """Create an agent and this many customers, each with a conversation."""
    agent = (await api.create("users", {"kind": "AGENT", "name": "Load agent"}))["user_id"]
    turns = asyncio.Semaphore(PREPARE_CONCURRENCY)
    base = random.randrange(10**6, 10**7)  # noqa: S311 - telephone numbers of nobody

    async def one(number: int) -> Lane:
        async with turns:
            address = f"1999{base}{number:04d}"[:15]
            customer = await api.customer(f"Customer {number}", channel, address)
            conversation = await api.conversation([agent, customer], channel)
            return Lane(conversation_id=conversation, sender_id=agent, address=address)

    return list(await asyncio.gather(*map(one, range(conversations))))


def turns(lanes: Sequence[Lane], group_of: Callable[[Lane], int]) -> Iterator[Lane]:
    """Yield lanes for ever: the groups take turns, and within each group its lanes.

    So every group, a partition say, gets messages at one even rate however many lanes it has.
    """
    groups: dict[int, list[Lane]] = {}
    for lane in lanes:
        groups.setdefault(group_of(lane), []).append(lane)
    wheels = [cycle(groups[number]) for number in sorted(groups)]
    for wheel in cycle(wheels):
        yield next(wheel)


class Workload:
    """Sends a number of messages at a rate, round robin over lanes, each once."""

    def __init__(
        self,
        api: Api,
        lanes: Sequence[Lane],
        *,
        rate_per_s: float,
        group_of: Callable[[Lane], int] = lambda _lane: 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._api = api
        self._turns = turns(lanes, group_of)
        self._sequences: Counter[str] = Counter()
        self._clock = clock or asyncio.get_running_loop().time
        self._rate_per_s = rate_per_s
        self.run_id = uuid4().hex[:12]
        """Every message of this workload begins with it."""
        self._stopped = False
        self.sends: list[Send] = []

    def stop(self) -> None:
        """Send no more; what was sent is still waited for."""
        self._stopped = True

    async def run(self, messages: int | None = None) -> list[Send]:
        """Send until there were so many or it is stopped; return when each has its outcome."""
        clock = asyncio.get_running_loop().time
        started = clock()
        async with asyncio.TaskGroup() as group:
            for number in count() if messages is None else range(messages):
                await asyncio.sleep(max(0.0, started + number / self._rate_per_s - clock()))
                if self._stopped:
                    break
                lane = next(self._turns)
                sequence = self._sequences[lane.conversation_id]
                self._sequences[lane.conversation_id] += 1
                group.create_task(self._send(lane, sequence))
        return self.sends

    async def _send(self, lane: Lane, sequence: int) -> None:
        message_id = uuid4()
        content = f"{self.run_id} {lane.conversation_id} {sequence}"
        body = {
            "message_id": str(message_id),
            "conversation_id": lane.conversation_id,
            "sender_id": lane.sender_id,
            "content": content,
        }
        invoked_at = self._clock()
        outcome, answer = await self._post(body)
        self.sends.append(
            Send(
                message_id=message_id,
                lane=lane.conversation_id,
                sequence=sequence,
                content=content,
                invoked_at=invoked_at,
                returned_at=self._clock(),
                outcome=outcome,
                answer=answer,
            )
        )

    async def _post(self, body: dict[str, str]) -> tuple[Outcome, str]:
        try:
            status = await self._api.post("/messages", body)
        except aiohttp.ClientConnectorError as error:
            return Outcome.FAIL, type(error).__name__
        except NO_ANSWER as error:
            return Outcome.INFO, type(error).__name__
        if status == 202:  # noqa: PLR2004
            return Outcome.OK, "202"
        return (Outcome.FAIL if status < 500 else Outcome.INFO), str(status)  # noqa: PLR2004
