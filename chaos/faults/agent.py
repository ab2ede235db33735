"""Kills an agent of Nomad or Consul; the tasks run on, and healing starts it again."""

import signal
from pathlib import Path
from typing import Literal

from chaos.adapters import processes
from chaos.faults.fault import Fault
from chaos.observations import Interval
from chaos.stage import NotConfirmed, Refused, Stage, Target
from chaos.undo import AnyUndo, StartAgent
from chaos.waiting import Late, until

EXIT_DEADLINE_S = 5.0
_PATH = "/v1/status/leader"


class Agent(Fault, frozen=True, kw_only=True, tag="agent"):
    """SIGKILL to an agent; it stays away for `hold`."""

    agent: Literal["nomad", "consul"]

    async def plan(self, stage: Stage) -> list[Target]:
        """Find the agent's process by the port it listens on."""
        url = self._url(stage)
        process = _listener(int(url.rsplit(":", 1)[1]), self.agent)
        if process is None:
            raise Refused(f"the agent of {self.agent} does not run on this machine")
        what = f"the agent of {self.agent} (process {process.pid})"
        return [Target(what=what, job=self.agent, processes=(process,), url=url)]

    def undo(self, stage: Stage, targets: list[Target]) -> list[AnyUndo]:
        """Start it again as it was started."""
        del stage
        return [_restart(target) for target in targets]

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Kill it and see that it is gone."""
        clock = stage.recorder.clock.now
        for target in targets:
            called_at = clock()
            process = target.processes[0]
            try:
                processes.send(process, signal.SIGKILL)

                async def gone(process: processes.Process = process) -> bool:
                    return processes.state(process) is None

                await until(f"the end of {target.what}", gone, EXIT_DEADLINE_S, poll_s=0.005)
            except (processes.Gone, Late) as error:
                raise NotConfirmed(str(error)) from error
            stage.hit(target, Interval(called_at, clock()))

    def _url(self, stage: Stage) -> str:
        platform = stage.platform
        return platform.nomad.url if self.agent == "nomad" else platform.consul_url


def _listener(port: int, name: str) -> processes.Process | None:
    """Return the process with this name that listens on a port of this machine."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() == name and any(
                str(link.readlink()) in inodes for link in (folder / "fd").iterdir()
            ):
                return processes.identify(int(folder.name))
        except OSError:
            continue
    return None


def _restart(target: Target) -> StartAgent:
    """Read from the kernel how the process was started."""
    proc = Path("/proc") / str(target.processes[0].pid)
    words = (proc / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
    return StartAgent(
        command=[str((proc / "exe").readlink()), *words[1:]],
        folder=str((proc / "cwd").readlink()),
        log=str((proc / "fd/1").readlink()),
        url=f"{target.url}{_PATH}",
    )
