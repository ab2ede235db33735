"""The directory of channels: what each connector says of itself, and the operator's switches."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from services.contracts.channels import STATES_PREFIX, SWITCHES_PREFIX, ChannelState
from services.runtime.app import App
from services.runtime.consul import keys_of
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable

OFF = "off"
_log = log(__name__)


class Channels:
    """Knows every deployed channel as Consul KV has it, or last had it while Consul is away."""

    def __init__(self, app: App[Any]) -> None:
        self._consul = app.consul
        self.states: Mapping[str, ChannelState] = {}
        self.usable: frozenset[str] = frozenset()
        """Those that are deployed, have a working account and are not switched off."""
        self._switched_off: frozenset[str] = frozenset()
        self._switches_known = False
        self.known = asyncio.Event()
        """Set once the directory was read."""
        app.health.add("channel directory", self._probe)
        app.spawn("watch-channels", self._watch_states())
        app.spawn("watch-channel-switches", self._watch_switches())

    async def switch(self, channel: str, *, on: bool) -> None:
        """Let the operator enable or disable a channel for all."""
        await self._consul.put(SWITCHES_PREFIX + channel, b"on" if on else OFF.encode())

    async def _watch_states(self) -> None:
        async for entries in self._consul.watch(f"/v1/kv/{STATES_PREFIX}", {"recurse": "true"}):
            found = {}
            for name, value in keys_of(entries, STATES_PREFIX).items():
                try:
                    found[name] = msgspec.json.decode(value, type=ChannelState)
                except msgspec.DecodeError as error:
                    _log.error("channel_state_unreadable", channel=name, error=str(error))
            self.states = found
            self._find_usable()
            self.known.set()

    async def _watch_switches(self) -> None:
        async for entries in self._consul.watch(f"/v1/kv/{SWITCHES_PREFIX}", {"recurse": "true"}):
            switches = keys_of(entries, SWITCHES_PREFIX)
            self._switched_off = frozenset(name for name, word in switches.items() if word == OFF)
            self._find_usable()
            self._switches_known = True

    def _find_usable(self) -> None:
        enabled = frozenset(name for name, state in self.states.items() if state.enabled)
        self.usable = enabled - self._switched_off

    async def _probe(self) -> None:
        if not (self.known.is_set() and self._switches_known):
            raise Unavailable("consul", "the channel directory was not read yet")
