"""What a process says of itself to its peers, and one connection over which it is said."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from msgspec import Struct

HELLO_SIZE_MAX_BYTES: Final = 16 * 1024
UNSENT_MAX_BYTES: Final = 64 * 1024
AUDIENCE_MAX: Final = 256
KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3))
"""The kernel ends the connection to a machine that is gone, which is no death of its process."""


class Membership(Struct, frozen=True):
    """A place in a consumer group; without a member id yet when it joins for the first time."""

    group: str
    client_id: str
    member_id: str
    joining: bool


class Hello(Struct, frozen=True):
    """What a process says of itself; the proof shows that it knows the installation's secret."""

    service: str
    instance: str
    boot: str
    host: str
    port: int
    proof: str = ""
    memberships: tuple[Membership, ...] = ()


def is_joining(hello: Hello) -> bool:
    """Tell whether a process says that it is about to join a group."""
    return any(membership.joining for membership in hello.memberships)


class Line(asyncio.Protocol):
    """One connection: says hello when it stands and hears the newest of the hellos that came."""

    def __init__(
        self,
        hello: Callable[[], bytes],
        heard: Callable[["Line", bytes], None],
        audience: set["Line"] | None = None,
    ) -> None:
        self._hello = hello
        self._heard = heard
        self._audience = set() if audience is None else audience
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self.answered = asyncio.Event()
        """Set by the first hello, and by the end."""
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, unless too many listen already."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._audience) >= AUDIENCE_MAX:
            self._transport.abort()
            return
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        self._audience.add(self)
        self.say(self._hello())

    def data_received(self, data: bytes) -> None:
        """Hear the last whole hello; one that never ends is heard as it is, and refused there."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > HELLO_SIZE_MAX_BYTES:
            lines, self._rest = [self._rest], b""
        if lines:
            self._heard(self, lines[-1])
            self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how does not matter
        """Let whoever waits know that it is over."""
        self._audience.discard(self)
        self.closed.set()
        self.answered.set()

    def say(self, hello: bytes) -> None:
        """Send a hello; a peer that takes none for long is hung up on and may call again."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > UNSENT_MAX_BYTES:
            self._transport.abort()
            return
        self._transport.write(hello)

    def close(self) -> None:
        """End the connection after what was said."""
        if self._transport is not None:
            self._transport.close()
