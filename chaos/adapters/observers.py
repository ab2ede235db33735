"""The observers of a campaign: each watches one source and records what it sees."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import aiohttp
from aiokafka.errors import KafkaError
from msgspec import Struct

from chaos import logs
from chaos.adapters import consul, processes
from chaos.adapters.kafka import STABLE, Groups, GroupState
from chaos.adapters.nomad import Nomad, Victim
from chaos.observations import Interval, Kind, Source
from chaos.recorder import Recorder
from chaos.waiting import until

POLL_S = 0.1
LAG_EVERY_S = 0.5
AGAIN_S = 0.2
REBALANCE_POLL_S = 0.001
"""A rebalance of a few members is over in 10 ms."""
REBALANCE_DEADLINE_S = 20.0
EXIT_ERROR_S = 0.02
NOMAD_ERROR_S = 0.1
"""Nomad writes an event down a little after it happened."""
BLIND = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    KafkaError,
    ValueError,
    processes.NotHere,
    consul.NotFound,
)
"""What keeps a source from seeing; it is recorded and tried again."""


class Watched(Struct, frozen=True):
    """A job to be watched, and its consumer group."""

    job: str
    group: str | None = None


_BROKER = Watched("kafka")


class Observers:
    """What is seen of the watched jobs; the newest state of each is at hand."""

    def __init__(
        self,
        nomad: Nomad,
        consul_url: str,
        session: aiohttp.ClientSession,
        recorder: Recorder,
        watched: Sequence[Watched],
    ) -> None:
        self._nomad = nomad
        self._consul_url = consul_url
        self._session = session
        self._recorder = recorder
        self._now = recorder.clock.now
        self._jobs = {w.job: w for w in (*watched, _BROKER)}
        self._tasks: asyncio.TaskGroup
        self._running: list[asyncio.Task[None]] = []
        self._followed: set[str] = set()
        self._exits: dict[processes.Process, processes.ExitWatch] = {}
        self._described: dict[str, Groups] = {}
        self.groups: dict[str, GroupState] = {}
        self.passing: dict[str, frozenset[str]] = {}

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to watch, as tasks of this group."""
        self._tasks = tasks
        self._spawn("nomad", Source.NOMAD, self._watch_tasks)
        for w in self._jobs.values():
            self._spawn(f"consul {w.job}", Source.CONSUL, partial(self._watch_checks, w.job))
            if w.group is not None:
                self._spawn(f"group {w.group}", Source.GROUP, partial(self._watch_group, w.group))
            for victim in await self._nomad.running(w.job):
                self._follow(victim, from_start=False)
        self._spawn("lag", Source.GROUP, self._watch_lag)

    def stop(self) -> None:
        """Watch no longer."""
        for task in self._running:
            task.cancel()
        for watch in self._exits.values():
            watch.close()

    def _spawn(self, name: str, source: Source, work: Callable[[], Awaitable[None]]) -> None:
        task = self._tasks.create_task(self._again(source, work), name=f"observer {name}")
        self._running.append(task)

    async def _again(self, source: Source, work: Callable[[], Awaitable[None]]) -> None:
        """Watch for ever; a source that fails is blind for a moment, and that is recorded."""
        while True:
            try:
                await work()
            except BLIND as error:
                self._recorder.miss(source, repr(error)[:200])
            await asyncio.sleep(AGAIN_S)

    async def _watch_tasks(self) -> None:
        kinds = {"Started": Kind.STARTED, "Terminated": Kind.TERMINATED}
        since = self._now()
        async for event in self._nomad.task_events():
            if event.job not in self._jobs or event.kind not in kinds or event.at < since - 1:
                continue
            self._recorder.see(
                Source.NOMAD,
                kinds[event.kind],
                Interval(event.at - NOMAD_ERROR_S, event.at),
                job=event.job,
                instance=event.allocation,
                detail=event.detail,
            )
            if event.kind == "Started":
                victim = Victim(job=event.job, allocation=event.allocation, task=event.task)
                self._follow(victim, from_start=True)

    async def _watch_checks(self, job: str) -> None:
        before = self._now()
        async for found in consul.passing(self._consul_url, job, self._session):
            known, after = self.passing.get(job), self._now()
            self.passing[job] = found
            if known is not None:
                for kind, names in ((Kind.UNHEALTHY, known - found), (Kind.HEALTHY, found - known)):
                    for name in names:
                        when = Interval(before, after)
                        self._recorder.see(Source.CONSUL, kind, when, job=job, detail=name)
            before = after

    async def rebalancing(self, group: str) -> None:
        """Return as soon as a watched group is seen to rebalance; raise Late when it does not."""

        async def begun() -> bool:
            try:
                return (await self._described[group].describe(group)).state != STABLE
            except BLIND:
                # Whoever watches the group writes that down.
                return False

        what = f"a rebalance of {group}"
        await until(what, begun, REBALANCE_DEADLINE_S, poll_s=REBALANCE_POLL_S)

    async def _watch_group(self, group: str) -> None:
        address = await consul.address_of(self._consul_url, "kafka", self._session)
        groups = self._described[group] = Groups(address)
        known: GroupState | None = None
        known_at = self._now()
        try:
            while True:
                asked_at = self._now()
                found = await groups.describe(group)
                if known is not None:
                    self._compare(group, known, found, Interval(known_at, self._now()))
                known, known_at = found, asked_at
                self.groups[group] = found
                await asyncio.sleep(max(0.0, asked_at + POLL_S - self._now()))
        finally:
            await groups.close()

    async def _watch_lag(self) -> None:
        """Sample how far the groups are behind, on a way to Kafka that no fault is put on."""
        address = await consul.address_of(self._consul_url, _BROKER.job, self._session)
        groups = Groups(address)
        names = [w.group for w in self._jobs.values() if w.group is not None]
        try:
            while True:
                began_at = self._now()
                for name in names:
                    await self._sample_lag(groups, name)
                await asyncio.sleep(max(0.0, began_at + LAG_EVERY_S - self._now()))
        finally:
            await groups.close()

    async def _sample_lag(self, groups: Groups, group: str) -> None:
        asked_at = self._now()
        behind = sorted((await groups.behind(group)).items())
        # A coordinator that is still loading the group knows no offset: that is no sample.
        if behind:
            self._recorder.sample(
                Source.GROUP,
                Kind.LAG,
                Interval(asked_at, self._now()),
                group=group,
                partitions=tuple(partition for partition, _ in behind),
                lag=tuple(count for _, count in behind),
            )

    def _compare(self, group: str, known: GroupState, found: GroupState, when: Interval) -> None:
        left = {m.member_id for m in known.members} - {m.member_id for m in found.members}
        for member in sorted(left):
            self._recorder.see(Source.GROUP, Kind.MEMBER_LEFT, when, group=group, member=member)
        if known.state == STABLE != found.state:
            self._recorder.see(Source.GROUP, Kind.REBALANCING, when, group=group)
        if found.state == STABLE != known.state:
            self._recorder.see(Source.GROUP, Kind.ASSIGNED, when, group=group)

    def _follow(self, victim: Victim, *, from_start: bool) -> None:
        """Follow the log of an allocation, and watch the process that it runs now."""
        try:
            process = processes.of_task(victim.allocation, victim.task)[0]
            if process not in self._exits:
                watch = processes.ExitWatch(process, lambda: self._exited(victim, process))
                self._exits[process] = watch
        except (processes.NotHere, OSError) as error:
            self._recorder.miss(Source.PIDFD, str(error))
        watched = self._jobs[victim.job]
        if victim.allocation in self._followed or (
            watched.group is None and watched is not _BROKER
        ):
            return
        self._followed.add(victim.allocation)
        reader = _Reader(self._nomad, self._recorder, watched, victim, from_start=from_start)
        self._spawn(f"log {victim.allocation[:8]}", reader.source, reader.read)

    def _exited(self, victim: Victim, process: processes.Process) -> None:
        now = self._now()
        self._recorder.see(
            Source.PIDFD,
            Kind.EXITED,
            Interval(now - EXIT_ERROR_S, now),
            job=victim.job,
            instance=victim.allocation,
            detail=f"process {process.pid}",
        )
        del self._exits[process]


class _Reader:
    """Reads what one task's log says of consumer groups."""

    def __init__(
        self,
        nomad: Nomad,
        recorder: Recorder,
        watched: Watched,
        victim: Victim,
        *,
        from_start: bool,
    ) -> None:
        self._nomad = nomad
        self._recorder = recorder
        self._watched = watched
        self._victim = victim
        self._from_start = from_start
        self._told_until = 0.0
        self._read_until = 0.0
        self.source = Source.BROKER if watched is _BROKER else Source.WORKER

    async def read(self) -> None:
        """Read until the stream ends; the next time lines that were read are passed over."""
        stream = "stderr" if self.source is Source.BROKER else "stdout"
        lines = self._nomad.log_lines(
            self._victim.allocation, self._victim.task, stream, from_start=self._from_start
        )
        self._from_start = True
        self._read_until = self._told_until
        async for line in lines:
            told = (
                logs.broker(line.decode(errors="replace"))
                if self.source is Source.BROKER
                else logs.worker(line, self._watched.group or "")
            )
            if told is not None and told.when.hi > self._read_until:
                self._told_until = told.when.hi
                self._keep(told)

    def _keep(self, told: logs.Told) -> None:
        self._recorder.see(
            self.source,
            told.kind,
            told.when,
            job=self._victim.job,
            instance=told.instance,
            group=told.group,
            member=told.member,
            generation=told.generation,
            partitions=told.partitions,
        )
