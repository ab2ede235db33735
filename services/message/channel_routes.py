"""The API of channels: which there are, and the operator's switch."""

import aiohttp
from msgspec import Struct

from services.contracts.channels import ChannelState
from services.contracts.problems import Problem
from services.message.views import ChannelView, channel_view
from services.runtime.channels import Channels
from services.runtime.http.pages import Page
from services.runtime.http.routes import endpoint
from services.runtime.unavailable import Unavailable


class ChannelPath(Struct, frozen=True):
    """Names a channel."""

    channel: str


class ChannelSwitch(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether messages are to be taken for a channel."""

    enabled: bool


class ChannelRoutes:
    """Answers for channels."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    @endpoint("GET", "/api/v1/channels")
    async def list_channels(self) -> Page[ChannelView]:
        """List the channels that were ever deployed."""
        return Page([self._view(state) for _, state in sorted(self._channels.states.items())], None)

    @endpoint("GET", "/api/v1/channels/{channel}")
    async def show(self, path: ChannelPath) -> ChannelView:
        """Show a channel."""
        return self._view(self._find(path.channel))

    @endpoint("PATCH", "/api/v1/channels/{channel}")
    async def switch(self, path: ChannelPath, body: ChannelSwitch) -> ChannelView:
        """Enable or disable a channel; every instance follows within moments."""
        state = self._find(path.channel)
        try:
            await self._channels.switch(state.channel, on=body.enabled)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("consul", "the switch was not stored") from error
        return channel_view(state, enabled=body.enabled and state.enabled)

    def _find(self, channel: str) -> ChannelState:
        state = self._channels.states.get(channel)
        if state is None:
            raise Problem("not_found")
        return state

    def _view(self, state: ChannelState) -> ChannelView:
        return channel_view(state, enabled=state.channel in self._channels.usable)
