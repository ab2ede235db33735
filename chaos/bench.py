"""What the repeats of a campaign share, and what is written down of one of them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chaos.clock import Clock
from chaos.history import Receipt, Send
from chaos.observations import Interval
from chaos.progress import Progress
from chaos.results import Phase
from chaos.safety import UndoLog
from chaos.scenario import Scenario
from chaos.stage import Stage, Target
from chaos.undo import World
from chaos.workload import Lane


@dataclass
class Bench:
    """What all repeats of a campaign share."""

    scenario: Scenario
    stage: Stage
    lanes: Sequence[Lane]
    partitions: Mapping[str, int]
    """The partition of each lane."""
    wanted: Mapping[str, int]
    """How many instances each job has when all is well."""
    undo_log: UndoLog
    progress: Progress

    @property
    def clock(self) -> Clock:
        """The harness's clock."""
        return self.stage.recorder.clock

    @property
    def world(self) -> World:
        """Where the platform is."""
        return World(self.stage.platform.nomad.url, self.stage.platform.consul_url)


@dataclass
class Notes:
    """What is written down while a repeat runs."""

    bench: Bench
    began_at: float
    phases: list[Phase] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    happened: dict[str, int] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    running: dict[str, set[str]] = field(default_factory=dict)
    """The instances of each job that is hit, before it is."""
    fault: Interval | None = None
    recovered: bool = False
    load_ended_at: float = 0.0
    sends: Sequence[Send] = ()
    receipts: Sequence[Receipt] = ()

    @asynccontextmanager
    async def phase(self, name: str, deadline_s: float) -> AsyncIterator[None]:
        """Tell that a phase begins, and write down how long it took."""
        began_at = self.bench.clock.now()
        self.bench.progress.phase(name, deadline_s)
        try:
            yield
        finally:
            self.phases.append(Phase(name, began_at, self.bench.clock.now()))
