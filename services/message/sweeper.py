"""Publishes again what stays PENDING: its first publication may never have happened."""

import asyncio
from datetime import timedelta

from services.message.acceptance import publish
from services.message.config import MessageConfig
from services.message.messages import now
from services.message.store import MessageStore
from services.runtime.kafka.producer import Producer
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of

BATCH_MESSAGES_MAX = 100

_log = log(__name__)


class Sweeper:
    """Looks for overdue messages now and then; none is published before it was left alone long."""

    def __init__(self, messages: MessageStore, producer: Producer, config: MessageConfig) -> None:
        self._messages = messages
        self._producer = producer
        self._interval_s = config.sweep_interval_s
        self._again = timedelta(seconds=config.sweep_again_s)

    async def run(self) -> None:
        """Sweep for ever; a dependency that is away is tried again at the next turn."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.sweep()
            except Exception as error:
                dependency = dependency_of(error)
                if dependency is None:
                    raise
                _log.warning("sweep_waits", dependency=dependency)

    async def sweep(self) -> int:
        """Publish one batch of overdue messages; return how many."""
        overdue = await self._messages.overdue(now(), BATCH_MESSAGES_MAX)
        if overdue:
            await publish(self._producer, overdue)
            await self._messages.postpone(overdue, now() + self._again)
            _log.info("messages_swept", messages=len(overdue))
        return len(overdue)
