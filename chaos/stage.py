"""What a fault acts on: the platform, what is seen of it, and where hits are written down."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from chaos.adapters import processes
from chaos.adapters.nomad import Victim
from chaos.adapters.observers import Observers
from chaos.adapters.platform import Platform
from chaos.adapters.processes import Process
from chaos.observations import Interval
from chaos.recorder import Recorder
from chaos.timeline import Hit

CHANNEL = "{channel}"


class Refused(Exception):  # noqa: N818 - a sentence about why nothing was broken
    """A fault that must not or cannot be injected here."""


class NotConfirmed(Exception):  # noqa: N818 - a sentence about what was not seen
    """A fault that was injected and not seen to be there."""


class Target(Struct, frozen=True, kw_only=True):
    """What a fault will hit, in words and as far as it is a task."""

    what: str
    job: str
    victim: Victim | None = None
    processes: tuple[Process, ...] = ()
    partitions: tuple[int, ...] = ()
    definition: dict[str, Any] | None = None
    link: str | None = None
    url: str | None = None


def how_many(select: str, running: int) -> int:
    """Return how many of the running instances a selector means."""
    if select == "minority":
        return max(1, (running - 1) // 2)
    if select == "majority":
        return running // 2 + 1
    return running if select == "all" else 1


@dataclass
class Stage:
    """One repeat's surroundings."""

    platform: Platform
    recorder: Recorder
    observers: Observers
    channels: list[str]
    groups: Mapping[str, str]
    """The consumer group of each job that carries deliveries."""
    min_survivors: int
    repeat: int = 0
    repeats: int = 1
    loaded: bool = False
    """Whether there is a load by now, so that every link it takes must carry something."""
    hits: list[Hit] = field(default_factory=list)
    _chosen: set[str] = field(default_factory=set)

    def begin(self, repeat: int) -> None:
        """Begin a repeat and its load: nothing was hit or chosen yet."""
        self.repeat, self.hits, self._chosen, self.loaded = repeat, [], set(), True

    def name(self, text: str) -> str:
        """Fill in the channel that is meant."""
        return text.replace(CHANNEL, self.channels[0].lower())

    async def select(self, job: str, select: str) -> list[Target]:
        """Choose running tasks of a job; raise Refused when too few would survive."""
        job = self.name(job)
        victims = await self.platform.nomad.victims(job)
        running = [victim for victim in victims if victim.allocation not in self._chosen]
        wanted = how_many(select, len(running))
        if not running:
            raise Refused(f"{job} has no running instance")
        if len(running) - wanted < self.min_survivors:
            raise Refused(
                f"{select} of {len(running)} {job} would leave {len(running) - wanted} survivors, "
                f"and {self.min_survivors} must survive"
            )
        if select == "owner":
            running.sort(key=lambda victim: -len(self._owned(job, victim.allocation)))
        self._chosen |= {victim.allocation for victim in running[:wanted]}
        return [self.target(victim) for victim in running[:wanted]]

    def target(self, victim: Victim) -> Target:
        """Return a task as a target, with its processes."""
        found = processes.of_task(victim.allocation, victim.task)
        owned = self._owned(victim.job, victim.allocation)
        own = f", partitions {', '.join(map(str, owned))}" if owned else ""
        return Target(
            what=f"{victim.job} {victim.allocation[:8]} (process {found[0].pid}{own})",
            job=victim.job,
            victim=victim,
            processes=tuple(found),
            partitions=owned,
        )

    def hit(self, target: Target, at: Interval) -> None:
        """Write down that a task was hit, and what it owned when it was chosen."""
        if target.victim is None:
            return
        self.hits.append(
            Hit(
                job=target.job,
                instance=target.victim.allocation,
                at=at,
                group=self.groups.get(target.job),
                partitions=target.partitions,
            )
        )

    async def rebalancing(self, job: str) -> None:
        """Return as soon as the consumer group of a job rebalances; raise Late if it does not."""
        await self.observers.rebalancing(self.groups[job])

    def phase_s(self, interval_s: float) -> float:
        """Return a share of an interval, another one in each repeat, evenly spread over all."""
        return interval_s * (self.repeat + random.random()) / self.repeats  # noqa: S311

    def _owned(self, job: str, instance: str) -> tuple[int, ...]:
        group = self.observers.groups.get(self.groups.get(job, ""))
        return group.owned_by(instance) if group is not None else ()
