"""Lifelines: one TCP connection to every process of the same service, whose end is seen at once.

Each process dials all others; who is dialled says which consumer groups it is in and as whom, at
once when that changes and twice a second anyway. A killed process is known by the end of its
connection and nobody of its boot answering at its address. Silence proves nothing: a stalled
process and a cut network look the same, and Kafka's session timeout decides there. So does a
membership that was left: a graceful stop leaves its groups first, so that nothing is left to evict
when its lifelines end.
"""

import asyncio
import hmac
import secrets
import time
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import msgspec

from services.runtime.config import Config
from services.runtime.consul import Consul, keys_of
from services.runtime.discovery import Discovery, Spawn
from services.runtime.health import Health
from services.runtime.kafka.hello import Hello, Line, Membership, is_joining
from services.runtime.telemetry import metrics
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable

SERVICE_SUFFIX: Final = "-lifeline"
SWITCH: Final = "eviction"
OFF: Final = "off"
SAY_EVERY_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 1.0
RETRY_MIN_S: Final = 0.005
RETRY_MAX_S: Final = 1.0

Address = tuple[str, int]
_log = log(__name__)


class Member(Protocol):
    """A place of ours in a consumer group."""

    group: str

    @property
    def membership(self) -> Membership | None:
        """What peers must know of it; None while there is nothing to evict."""

    async def evict(self, lost: Membership, peer: str, seen_at: float) -> None:
        """Make the group go on without a member that is dead."""

    async def hasten(self, *, expected: bool) -> None:
        """Ask at once whether a rebalance has begun, and some more where one is expected."""


class _Peer:
    """An address where a process of our service listens or listened."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.listed = False
        """Consul knows it."""
        self.passing = False
        self.connected = False
        self.absent = False
        """No peer is there to be waited for: the address refused, or is another's or our own."""
        self.hello: Hello | None = None
        self.said = b""
        self.called = asyncio.Event()
        """Set when it has dialled us, so that it must be there."""

    @property
    def settled(self) -> bool:
        """Whether lifelines stand both ways, or cannot."""
        return self.absent or not self.passing or (self.connected and self.called.is_set())


class Lifelines:
    """The lifelines of one process; without a port for them there are none and nobody evicts."""

    def __init__(
        self, config: Config, consul: Consul, discovery: Discovery, health: Health, spawn: Spawn
    ) -> None:
        self.boot = secrets.token_hex(4)
        """Tells this process from the one that was restarted under the same name."""
        self._config = config
        self._consul = consul
        self._discovery = discovery
        self._health = health
        self._spawn = spawn
        self._members: list[Member] = []
        self._peers: dict[Address, _Peer] = {}
        self._peers_known = False
        self._audience: set[Line] = set()
        self._server: asyncio.Server | None = None
        self._own: Address = (config.http_host, config.lifeline_port or 0)
        self.evicting = True
        """Whether the dead are evicted: the switch of the installation, as far as it is known."""
        self._switch_known = asyncio.Event()
        self._told: tuple[Membership, ...] | None = None
        self._hello = b""
        self._moved = asyncio.Event()

    @property
    def peers(self) -> list[Hello]:
        """What those we hold a lifeline to said last."""
        return [peer.hello for peer in self._peers.values() if peer.connected and peer.hello]

    def a_peer_joins(self, group: str) -> bool:
        """Tell whether a peer says that it is about to join a group."""
        return any(m.group == group and m.joining for peer in self.peers for m in peer.memberships)

    def enter(self, member: Member) -> None:
        """Let peers know a membership from now on, and it those of the same group."""
        self._members.append(member)
        if len(self._members) > 1:
            return
        if self._config.lifeline_port is None:
            _log.warning("lifelines_off", reason="LIFELINE_PORT is not set")
            return
        self._health.add("lifelines", self._probe)
        self._spawn("lifelines", self._speak())
        self._spawn("watch-eviction", self._watch_switch())

    def changed(self) -> None:
        """Say at once what has changed instead of with the next hello."""
        hello = self._what_to_say()
        for line in tuple(self._audience):
            line.say(hello)

    async def gathered(self) -> None:
        """Return when all peers can hear us, that we join a group say, or did not come in time.

        Then it is known too whether the dead are to be evicted.
        """
        wait_s = 0.0 if self._config.lifeline_port is None else ANSWER_TIMEOUT_S
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._switch_known.wait()
                while not (self._peers_known and all(p.settled for p in self._peers.values())):
                    self._moved.clear()
                    await self._moved.wait()

    async def close(self) -> None:
        """Say what is left to say and end all lifelines."""
        if self._server is None:
            return
        self._server.close()
        self.changed()
        for line in tuple(self._audience):
            line.close()

    async def _speak(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Line(self._what_to_say, self._greeted, self._audience), *self._own
        )
        self._own = self._server.sockets[0].getsockname()[:2]
        self._spawn("watch-lifelines", self._watch_peers())
        while True:
            self.changed()
            await asyncio.sleep(SAY_EVERY_S)

    def _what_to_say(self) -> bytes:
        found = (member.membership for member in self._members)
        memberships = tuple(membership for membership in found if membership is not None)
        if memberships != self._told:
            self._told = memberships
            hello = Hello(
                self._config.service_name,
                self._config.instance_id,
                self.boot,
                *self._own,
                memberships=memberships,
            )
            hello = msgspec.structs.replace(hello, proof=self._proof(hello))
            self._hello = msgspec.json.encode(hello) + b"\n"
        return self._hello

    def _proof(self, hello: Hello) -> str:
        said = msgspec.json.encode((hello.service, hello.boot, hello.host, hello.port))
        return hmac.digest(self._config.internal_token.encode(), said, "sha256").hex()

    def _read(self, said: bytes) -> Hello | None:
        """Return a hello of our service under our installation's secret; None for anything else."""
        try:
            hello = msgspec.json.decode(said, type=Hello)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return None
        ours = hello.service == self._config.service_name
        return hello if ours and hmac.compare_digest(hello.proof, self._proof(hello)) else None

    def _greeted(self, line: Line, said: bytes) -> None:
        """Dial back whoever dialled us: it may be here before Consul tells."""
        hello = self._read(said)
        if hello is None:
            line.close()
        elif hello.boot != self.boot:
            self._meet((hello.host, hello.port)).called.set()
            self._moved.set()

    async def _watch_peers(self) -> None:
        service = f"{self._config.service_name}{SERVICE_SUFFIX}"
        async for instances in self._discovery.instances(service):
            passing = {(found.host, found.port): found.passing for found in instances}
            for address in passing:
                self._meet(address)
            for peer in self._peers.values():
                peer.listed = peer.address in passing
                peer.passing = passing.get(peer.address, False)
            self._peers_known = True
            self._moved.set()

    async def _watch_switch(self) -> None:
        folder = "chat4all/config/common/"
        async for entries in self._consul.watch(f"/v1/kv/{folder}{SWITCH}", {}):
            self.evicting = keys_of(entries, folder).get(SWITCH) != OFF
            self._switch_known.set()
            _log.info("eviction_switched", on=self.evicting)

    async def _probe(self) -> None:
        if not self._peers_known:
            raise Unavailable("consul", "the peers are not known yet")
        for peer in self._peers.values():
            if peer.passing and not (peer.connected or peer.absent):
                raise Unavailable("lifelines", "a peer has not answered yet")

    def _meet(self, address: Address) -> _Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = _Peer(address)
            peer.absent = address == self._own
            if not peer.absent:
                self._spawn("lifeline", self._follow(peer))
        return peer

    async def _follow(self, peer: _Peer) -> None:
        """Hold a lifeline to a peer until nobody is there and Consul does not know it any more."""
        wait_s = RETRY_MIN_S
        while True:
            line = await self._dial(peer)
            if line is not None:
                wait_s = RETRY_MIN_S
                metrics.lifeline_peers.inc()
                peer.connected = True
                self._moved.set()
                try:
                    await line.closed.wait()
                finally:
                    line.close()
                    peer.connected = False
                    metrics.lifeline_peers.dec()
                continue
            if not peer.listed and (peer.absent or wait_s >= RETRY_MAX_S):
                del self._peers[peer.address]
                return
            peer.called.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await peer.called.wait()
            wait_s = min(RETRY_MAX_S, wait_s * 2)

    async def _dial(self, peer: _Peer) -> Line | None:
        """Return a lifeline whose end was not seen yet; None when there is none.

        A refused connection is a death. One that breaks before an answer, or has none in time,
        says nothing: a dying process may still accept it, a stopped one too.
        """
        line = Line(self._what_to_say, partial(self._heard, peer))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: line, *peer.address)
                await line.answered.wait()
        except ConnectionRefusedError:
            peer.absent = True
            self._moved.set()
            self._gone(peer, "refused")
            return None
        except (OSError, TimeoutError):
            peer.absent = False
            line.close()
            return None
        return None if peer.absent or line.closed.is_set() else line

    def _heard(self, peer: _Peer, line: Line, said: bytes) -> None:
        before = peer.hello
        if said == peer.said and before is not None and not is_joining(before):
            return
        hello = self._read(said)
        peer.absent = hello is None or hello.boot == self.boot
        if before is not None and (hello is None or hello.boot != before.boot):
            self._gone(peer, "replaced")
        if hello is None or peer.absent:
            line.close()
            return
        peer.hello, peer.said = hello, said
        groups = {m.group for one in (before, hello) if one for m in one.memberships}
        for member in self._members:
            if member.group in groups:
                self._spawn("hasten", member.hasten(expected=is_joining(hello)))

    def _gone(self, peer: _Peer, how: str) -> None:
        """Have the memberships evicted that a process died with."""
        seen_at = time.monotonic()
        lost, peer.hello, peer.said = peer.hello, None, b""
        if lost is None:
            return
        _log.info(
            "peer_lost" if lost.memberships else "peer_left",
            peer=lost.instance,
            boot=lost.boot,
            how=how,
            evicting=self.evicting,
            monotonic_s=seen_at,
        )
        for membership in lost.memberships if self.evicting else ():
            for member in self._members:
                if member.group == membership.group:
                    self._spawn("evict", member.evict(membership, lost.instance, seen_at))
