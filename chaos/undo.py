"""How each fault is taken back: records on disk that anybody can carry out, again and again.

A record holds all that is needed: the runner, the dead man and `just chaos heal` do the same.
Carrying one out twice, or when nothing is broken any more, changes nothing.
"""

import signal
import subprocess
from collections.abc import Sequence
from typing import Any

import aiohttp
from msgspec import Struct

from chaos.adapters import NO_ANSWER, consul, processes
from chaos.adapters.nomad import Nomad
from chaos.adapters.processes import Process
from chaos.adapters.provider import Provider
from chaos.adapters.toxiproxy import Toxiproxy
from chaos.waiting import SLOW_POLL_S, until

VERIFY_DEADLINE_S = 30.0
_OWN_NAMESPACE = 'umount -l /sys/fs/cgroup 2>/dev/null; exec "$@"'
"""Agents here run without the machine's cgroups, as the local cluster starts them."""


class World(Struct, frozen=True):
    """Where the platform is that was broken."""

    nomad_url: str
    consul_url: str


class Undo(Struct, frozen=True, tag_field="kind"):
    """One thing to be taken back.

    Each kind has its own `apply(world, session)`, which takes it back, returns once that is
    verified and raises when it cannot be.
    """


class Resume(Undo, frozen=True, tag="resume"):
    """Let stopped processes go on."""

    processes: list[Process]

    async def apply(self, world: World, session: aiohttp.ClientSession) -> None:
        """Send SIGCONT to those that still exist."""
        del world, session
        for process in self.processes:
            try:
                processes.send(process, signal.SIGCONT)
            except processes.Gone:
                continue

        async def resumed() -> bool:
            return all(processes.state(process) != "T" for process in self.processes)

        await until("the processes' going on", resumed, VERIFY_DEADLINE_S, poll_s=0.005)


class StartJob(Undo, frozen=True, tag="start-job"):
    """Register a job again that was stopped."""

    definition: dict[str, Any]

    async def apply(self, world: World, session: aiohttp.ClientSession) -> None:
        """Start the job if it is stopped, and wait for an instance."""
        nomad, job = Nomad(world.nomad_url, session), self.definition["ID"]
        if await nomad.stopped(job):
            await nomad.start(self.definition)

        async def runs() -> bool:
            return bool(await nomad.running(job))

        await until(f"the start of {job}", runs, VERIFY_DEADLINE_S, poll_s=SLOW_POLL_S)


class Cure(Undo, frozen=True, tag="cure"):
    """Take toxics away from links."""

    toxiproxy_url: str
    toxics: list[tuple[str, str]]

    async def apply(self, world: World, session: aiohttp.ClientSession) -> None:
        """Remove each toxic; where that does not work, reset the whole proxy."""
        del world
        toxiproxy = Toxiproxy(self.toxiproxy_url, session)
        try:
            for proxy, name in self.toxics:
                await toxiproxy.cure(proxy, name)
        except NO_ANSWER:
            await toxiproxy.reset()
        left = [pair for pair in self.toxics if pair[1] in await toxiproxy.toxics(pair[0])]
        if left:
            raise RuntimeError(f"toxics are left on {', '.join(proxy for proxy, _ in left)}")


class Behave(Undo, frozen=True, tag="behave"):
    """Let a provider's simulator behave again."""

    service: str

    async def apply(self, world: World, session: aiohttp.ClientSession) -> None:
        """Take all its faults away."""
        provider = await Provider.find(world.consul_url, self.service, session)
        await provider.clear_faults()
        if await provider.faults():
            raise RuntimeError(f"{self.service} still has faults")


class SetKey(Undo, frozen=True, tag="set-key"):
    """Give a key in Consul its former value."""

    key: str
    value: str | None

    async def apply(self, world: World, session: aiohttp.ClientSession) -> None:
        """Write the value, or remove the key."""
        await consul.write_key(world.consul_url, self.key, self.value, session)
        if await consul.read_key(world.consul_url, self.key, session) != self.value:
            raise RuntimeError(f"{self.key} does not have its former value")


class StartAgent(Undo, frozen=True, tag="start-agent"):
    """Start an agent again as it was started."""

    command: list[str]
    folder: str
    log: str
    url: str

    async def apply(self, world: World, session: aiohttp.ClientSession) -> None:
        """Start it unless it answers, and wait until it does."""
        del world

        async def answers() -> bool:
            try:
                async with session.get(self.url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                    return answer.status == 200 and bool(await answer.json())  # noqa: PLR2004
            except NO_ANSWER:
                return False

        if not await answers():
            wrapped = ["unshare", "-m", "sh", "-c", _OWN_NAMESPACE, "sh", *self.command]
            _launch(wrapped, self.folder, self.log)
        await until(f"the answer of {self.url}", answers, VERIFY_DEADLINE_S, poll_s=SLOW_POLL_S)


def _launch(command: Sequence[str], folder: str, log: str) -> None:
    with open(log, "ab") as output:  # noqa: PTH123 - may be a device
        subprocess.Popen(  # noqa: S603 - the command that the agent itself had
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


AnyUndo = Resume | StartJob | Cure | Behave | SetKey | StartAgent
