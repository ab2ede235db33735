"""What the API shows of messages that do not arrive: an outcome shown as unknown is an answer."""

import asyncio

from chaos.adapters.api import Api
from chaos.checkers.deliveries import visibly_open
from chaos.pulse import Pulse

EVERY_S = 1.0
ASKED_MAX = 100
"""So many at one time: the platform may just be getting up again."""


class Accounting:
    """Asks for the messages that are overdue, and takes off the pulse those that are accounted."""

    def __init__(self, api: Api, pulse: Pulse, patience_s: float) -> None:
        self._api = api
        self._pulse = pulse
        self._patience_s = patience_s
        self._asked_until: dict[str, int] = {}
        self._round = 0

    async def run(self) -> None:
        """Ask again and again, for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(EVERY_S)

    async def ask(self) -> None:
        """Ask once, first for those that were not asked for lately."""
        self._round += 1
        overdue = self._pulse.overdue(self._patience_s)
        overdue.sort(key=lambda send: self._asked_until.get(send.content, 0))
        chosen = overdue[:ASKED_MAX]
        self._asked_until |= {send.content: self._round for send in chosen}
        states = await self._api.final_states([send.message_id for send in chosen])
        for send in chosen:
            if visibly_open(states.get(send.message_id)):
                self._pulse.account(send)
