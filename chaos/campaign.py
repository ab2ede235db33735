"""A campaign: N repeats of one scenario on a running platform, and what they come to."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from chaos import archive, safety
from chaos.adapters import NO_ANSWER, consul
from chaos.adapters.kafka import partition_of
from chaos.adapters.nomad import NoSuchJob, NotAllowed
from chaos.adapters.observers import Observers, Watched
from chaos.adapters.platform import NoPlatform, connect
from chaos.adapters.processes import NotHere
from chaos.aftermath import Aftermath
from chaos.bench import Bench, Notes
from chaos.checking import goals, promises, sentence
from chaos.clock import Clock
from chaos.envelope import predicted
from chaos.faults.deploy import Deploy
from chaos.progress import Progress
from chaos.pulse import Witness
from chaos.recorder import Recorder
from chaos.results import Repeat, Results, careful, measured, summaries
from chaos.runner import Runner
from chaos.scenario import Scenario
from chaos.stage import Refused, Stage
from chaos.undo import SetKey, World
from chaos.units import show
from chaos.verdicts import Valid, Verdict, overall
from chaos.workload import Lane, prepare
from services.contracts.topics import PARTITIONS

ROUTER, MESSAGE, CONNECTOR = "router", "message", "connector-{channel}"
EVICTION_KEY = "chat4all/config/common/eviction"
OFF = "off"
RESTARTS_MIN = 3
RESTART_DELAY_MAX_S = 5.0
REFUSED = (NoPlatform, Refused, NotAllowed, NoSuchJob, NotHere, consul.NotFound)
"""Why a campaign is not begun."""


@dataclass(frozen=True)
class Options:
    """What the person at the keyboard chose."""

    repeats: int
    eviction: bool = True


@asynccontextmanager
async def stage_of(scenario: Scenario, recorder: Recorder) -> AsyncIterator[Stage]:
    """Lend the surroundings of a scenario; raise Refused when the platform does not suffice."""
    async with connect() as platform:
        try:
            channels = await platform.channels()
        except NO_ANSWER as error:
            raise NoPlatform(f"the platform does not answer ({error}): start it") from error
        if len(channels) < scenario.workload.channels:
            wanted = scenario.workload.channels
            raise Refused(f"{wanted} channels are needed, and {len(channels)} take messages")
        channels = channels[: scenario.workload.channels]
        groups = {ROUTER: "router"}
        groups |= {name: name for name in _names(CONNECTOR, channels)}
        watched = [Watched(job, groups.get(job)) for job in _jobs(scenario, channels)]
        observers = Observers(
            platform.nomad, platform.consul_url, platform.session, recorder, watched
        )
        yield Stage(
            platform=platform,
            recorder=recorder,
            observers=observers,
            channels=channels,
            groups=groups,
            min_survivors=scenario.guards.min_survivors,
        )


def _names(job: str, channels: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(job.replace("{channel}", c.lower()) for c in channels))


def _jobs(scenario: Scenario, channels: Sequence[str]) -> list[str]:
    """Return the jobs to be watched: the way of a message, and what the scenario touches."""
    wanted = [ROUTER, MESSAGE, CONNECTOR, *scenario.jobs]
    wanted += [job for f in scenario.faults if isinstance(f, Deploy) for job in f.jobs]
    return list(dict.fromkeys(name for job in wanted for name in _names(job, channels)))


async def preflight(stage: Stage, scenario: Scenario) -> dict[str, int]:
    """Return how many instances each job wants; raise Refused when the fault must not be."""
    nomad = stage.platform.nomad
    wanted = {job: await nomad.count(job) for job in (*_jobs(scenario, stage.channels), "kafka")}
    for job in map(stage.name, scenario.jobs):
        attempts, delay_s = await nomad.restarts(job)
        if attempts < RESTARTS_MIN or delay_s > RESTART_DELAY_MAX_S:
            raise Refused(
                f"Nomad restarts {job} {attempts} times after {delay_s:.0f} s: "
                "repeats would depend on each other"
            )
    for fault in scenario.faults:
        await fault.plan(stage)
    return wanted


class Campaign:
    """Runs the repeats, writes down each as it ends, and heals whatever happens."""

    def __init__(
        self, scenario: Scenario, options: Options, progress: Progress, folder: Path
    ) -> None:
        self._scenario = scenario
        self._options = options
        self._progress = progress
        self._folder = folder
        self._recorder = Recorder(Clock())
        self._recorder.listeners.append(progress.seen)
        self._repeats: list[Repeat] = []
        self._afterwards: Verdict | None = None
        """What the witnesses say against the repeats once all are judged."""
        self._refusal = ""
        self._partitions: dict[str, int] = {}
        self._began_at = time.time()
        self._undo_log = safety.UndoLog(safety.undo_path())

    async def run(self) -> Results:
        """Run the campaign; its results are in its folder also when it was interrupted."""
        interrupted = False
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with safety.only_one(self._undo_log.path.with_suffix(".lock")):
                await self._guarded()
        except REFUSED as error:
            self._refusal = str(error)
        except asyncio.CancelledError:
            interrupted = True
        results = self._results(interrupted=interrupted)
        self._keep("the results", lambda: archive.write(self._folder, results))
        return results

    async def _guarded(self) -> None:
        """Run the repeats between a heal before and a heal after, watched by the dead man."""
        async with aiohttp.ClientSession() as session:
            healed = await safety.heal(self._undo_log, session)
            if healed:
                self._progress.line(f"healed {healed} faults that an earlier campaign had left")
            self._undo_log.shorten()
            dead_man = safety.DeadMan(self._undo_log.path)
            try:
                await self._staged(dead_man)
            finally:
                await safety.heal(self._undo_log, session)
                dead_man.release()

    async def _staged(self, dead_man: safety.DeadMan) -> None:
        async with AsyncExitStack() as stack:
            stage = await stack.enter_async_context(stage_of(self._scenario, self._recorder))
            stage.repeats = self._options.repeats
            self._progress.phase("preflight", self._scenario.deadlines.steady)
            try:
                async with asyncio.TaskGroup() as tasks:
                    renewing = tasks.create_task(dead_man.keep_renewing(), name="dead man")
                    try:
                        await stage.observers.start(tasks)
                        await self._repeated(stage)
                    finally:
                        renewing.cancel()
                        stage.observers.stop()
            except BaseExceptionGroup as group:
                raise _only(group) from None

    async def _repeated(self, stage: Stage) -> None:
        wanted = await preflight(stage, self._scenario)
        self._progress.phase("warm-up", self._scenario.deadlines.steady)
        await self._switch_eviction(stage)
        lanes = await self._prepare(stage)
        providers = [await stage.platform.provider(channel) for channel in stage.channels]
        witnesses = [await Witness.begin(provider) for provider in providers]
        self._partitions = {lane.conversation_id: _partition(lane) for lane in lanes}
        aftermath = Aftermath(self._folder, witnesses)
        bench = Bench(
            scenario=self._scenario,
            stage=stage,
            lanes=lanes,
            partitions=self._partitions,
            wanted=wanted,
            undo_log=self._undo_log,
            progress=self._progress,
        )
        for number in range(self._options.repeats):
            stage.begin(number)
            self._progress.line(
                f"{self._scenario.name}, repeat {number + 1} of {self._options.repeats}"
            )
            runner = Runner(bench, witnesses)
            repeat = await runner.run()
            self._repeats.append(repeat)
            self._keep(f"repeat {number + 1}", partial(self._write, repeat, runner.notes))
            aftermath.judged(runner.run_id)
            self._progress.line(f"  {_words(repeat)}")
        self._afterwards = await aftermath.verdict()

    async def _prepare(self, stage: Stage) -> list[Lane]:
        share = self._scenario.workload.conversations // len(stage.channels)
        found: list[Lane] = []
        for channel in stage.channels:
            found += await prepare(stage.platform.api, channel, share)
        while len({_partition(lane) for lane in found}) < PARTITIONS:
            # Every partition must carry messages, or its failover could not be seen.
            found += await prepare(stage.platform.api, stage.channels[0], PARTITIONS)
        return found

    async def _switch_eviction(self, stage: Stage) -> None:
        platform = stage.platform
        if self._options.eviction:
            return
        before = await consul.read_key(platform.consul_url, EVICTION_KEY, platform.session)
        world = World(platform.nomad.url, platform.consul_url)
        self._undo_log.add(world, SetKey(EVICTION_KEY, before))
        await consul.write_key(platform.consul_url, EVICTION_KEY, OFF, platform.session)

    def _keep(self, what: str, write: Callable[[], object]) -> None:
        """Write something down; where that fails it is told, and what was judged stands."""
        try:
            write()
        except Exception as error:  # noqa: BLE001 - no file is worth a verdict or a heal
            words = f"{type(error).__name__}: {error}"
            self._progress.line(f"{what} could not be written to {self._folder} ({words})")

    def _write(self, repeat: Repeat, notes: Notes) -> None:
        archive.append_history(self._folder, repeat.number, notes.sends, notes.receipts)
        archive.append_observations(self._folder, self._recorder.take())
        archive.write(self._folder, self._results(interrupted=False))

    def _results(self, *, interrupted: bool) -> Results:
        repeats, scenario = self._repeats, self._scenario
        verdicts = [
            Verdict(name=f"repeat {r.number}", valid=r.valid, reason=_reason(r)) for r in repeats
        ]
        if self._refusal:
            reason = f"refused: {self._refusal}"
            verdicts.append(Verdict(name="preflight", valid=Valid.UNKNOWN, reason=reason))
        if interrupted:
            reason = "it was interrupted"
            verdicts.append(Verdict(name="campaign", valid=Valid.UNKNOWN, reason=reason))
        if self._afterwards is not None:
            verdicts.append(self._afterwards)
        valid = overall(verdict.valid for verdict in verdicts)
        rows = promises(scenario, repeats)
        ours = goals(scenario, repeats)
        said = sentence(scenario.title, rows, ours, repeats)
        if self._refusal or interrupted or self._afterwards is not None:
            said = f"{scenario.title}: {verdicts[-1].reason}."
        return Results(
            scenario=scenario.name,
            title=scenario.title,
            hypothesis=scenario.hypothesis,
            valid=valid,
            sentence=said,
            began_at=self._began_at,
            ended_at=time.time(),
            instance=os.environ.get("CHAT4ALL_INSTANCE", "dev"),
            commit=_commit(),
            eviction=self._options.eviction,
            interrupted=interrupted,
            tier=scenario.tier,
            verdicts=verdicts,
            promises=rows,
            goals=ours,
            metrics=summaries(repeats),
            predicted={
                name: measured(interval)
                for name, interval in predicted(scenario, eviction=self._options.eviction).items()
            },
            repeats=list(repeats),
            partitions=self._partitions,
        )


def _partition(lane: Lane) -> int:
    return partition_of(lane.conversation_id, PARTITIONS)


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error of a group that matters: a group of one is that one."""
    first = group.exceptions[0]
    return _only(first) if isinstance(first, BaseExceptionGroup) else first


def _reason(repeat: Repeat) -> str:
    return next((v.reason for v in repeat.verdicts if v.valid is repeat.valid and v.reason), "")


def _words(repeat: Repeat) -> str:
    times = [
        f"{name.removesuffix('_s')} {show(careful(value.interval))}"
        for name in ("detection_s", "rebalance_s", "failover_s", "unavailability_s")
        if (value := repeat.metrics.get(name)) is not None
    ]
    counts = [f"{n} {repeat.counts.get(n, '?')}" for n in ("lost", "doubled", "reordered")]
    reason = _reason(repeat)
    return ", ".join([repeat.valid.value, *times, *counts]) + (f": {reason}" if reason else "")


def _commit() -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(  # noqa: S603 - what was measured is named by its commit
        words, cwd=safety.ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
