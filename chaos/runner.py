"""One repeat of a scenario, phase by phase; whatever happens, what was broken is healed."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from chaos import safety
from chaos.accounting import Accounting
from chaos.adapters import NO_ANSWER, processes
from chaos.adapters.nomad import NoSuchJob, NotAllowed
from chaos.adapters.processes import NotHere
from chaos.bench import Bench, Notes
from chaos.closing import Closing
from chaos.health import Health
from chaos.observations import Interval, Kind, Source
from chaos.pulse import BEAT_S, Pulse, Witness
from chaos.results import Repeat
from chaos.stage import NotConfirmed, Refused
from chaos.statuswatch import StatusWatch
from chaos.waiting import Late, until
from chaos.workload import Workload

LOOK_S = 0.05
RECOVERED_HOLD_S = 0.5
HEAL_DEADLINE_S = 90.0
PREVENTED = (Late, NotConfirmed, Refused, NotAllowed, NoSuchJob, NotHere, safety.Broken)
"""Why a repeat can end without a judgement of the platform."""


class Runner:
    """Runs one repeat."""

    def __init__(self, bench: Bench, witnesses: Sequence[Witness]) -> None:
        bench.clock.anchor()
        self._bench = bench
        self._scenario = bench.scenario
        self._stage = bench.stage
        self._now = bench.clock.now
        self.notes = Notes(bench, self._now())
        api = bench.stage.platform.api
        self._workload = Workload(
            api,
            bench.lanes,
            rate_per_s=bench.scenario.workload.rate,
            group_of=lambda lane: bench.partitions[lane.conversation_id],
            clock=self._now,
        )
        self._pulse = Pulse(
            self._workload, witnesses, lambda lane: bench.partitions[lane], self._now
        )
        self._health = Health(
            bench.stage.observers,
            bench.wanted,
            bench.stage.groups,
            self._pulse,
            bench.scenario.steady.delivery_p99,
        )
        self._accounting = Accounting(api, self._pulse, bench.scenario.steady.delivery_p99)
        self._mending = asyncio.Event()
        self._statuses = StatusWatch(api, self._workload, bench.clock)
        self._closing = Closing(self.notes, self._workload, self._pulse, witnesses)
        self.run_id = self._workload.run_id
        self._looked_at = 0.0
        self._told = False
        self._undo: list[int] = []

    async def run(self) -> Repeat:
        """Run all phases; raise only when the harness itself is wrong or was interrupted."""
        side = [
            asyncio.create_task(self._beats(), name="beats"),
            asyncio.create_task(self._statuses.run(), name="statuses"),
            asyncio.create_task(self._account(), name="accounting"),
        ]
        load = asyncio.create_task(self._workload.run(), name="load")
        try:
            await self._break_and_mend()
            self._workload.stop()
            await load
            self.notes.load_ended_at = self._now()
            await self._closing.drain()
        finally:
            for task in (*side, load):
                task.cancel()
            ended = await asyncio.gather(*side, load, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        return await self._closing.check(self._statuses.seen)

    async def _break_and_mend(self) -> None:
        limit_s = self._scenario.guards.max_duration
        try:
            try:
                async with asyncio.timeout(limit_s):
                    await self._steady()
                    await self._inject()
                    await self._impact()
            finally:
                # Also when this was cancelled or came too late: nothing stays broken.
                await self._heal()
            await self._recover()
        except PREVENTED as error:
            self.notes.problems.append(str(error))
        except TimeoutError:
            self.notes.problems.append(f"the repeat took longer than {limit_s:.0f} s")

    async def _steady(self) -> None:
        deadline_s, hold_s = self._scenario.deadlines.steady, self._scenario.steady.hold
        async with self.notes.phase("steady", deadline_s):

            async def well() -> bool:
                return self._health.ill() is None

            try:
                await until("a steady state", well, deadline_s, hold_s=hold_s)
            except Late as error:
                raise Late(f"{error}: {self._health.ill()}") from error

    async def _inject(self) -> None:
        stage, faults, notes = self._stage, self._scenario.faults, self.notes
        async with notes.phase("inject", self._scenario.deadlines.inject):
            plans = [await fault.plan(stage) for fault in faults]
            notes.targets = [target for plan in plans for target in plan]
            for job in {target.job for target in notes.targets if target.victim is not None}:
                running = await stage.platform.nomad.running(job)
                notes.running[job] = {victim.allocation for victim in running}
            self._note_owners()
            for fault, targets in zip(faults, plans, strict=True):
                for undo in fault.undo(stage, targets):
                    self._undo.append(self._bench.undo_log.add(self._bench.world, undo))
            for fault, targets in zip(faults, plans, strict=True):
                await asyncio.sleep(fault.after)
                called_at = self._now()
                if notes.fault is None:
                    notes.fault = Interval(called_at, called_at)
                await fault.inject(stage, targets)
                when = Interval(called_at, self._now())
                words = ", ".join(target.what for target in targets)
                stage.recorder.see(Source.HARNESS, Kind.CONFIRMED, when, detail=words)
                self._count("fault-confirmed")
        if notes.fault is not None and stage.hits:
            notes.fault = Interval(min(hit.at.lo for hit in stage.hits), notes.fault.hi)

    def _note_owners(self) -> None:
        """Write down who owns which partitions before anything is broken."""
        when = Interval(self._now(), self._now())
        for job, group in self._stage.groups.items():
            state = self._stage.observers.groups.get(group)
            for member in state.members if state is not None else ():
                self._stage.recorder.see(
                    Source.GROUP,
                    Kind.OWNS,
                    when,
                    job=job,
                    instance=member.client_id.removeprefix(f"{job}-"),
                    group=group,
                    partitions=tuple(sorted(member.partitions)),
                )

    def _count(self, event: str) -> None:
        self.notes.happened[event] = self.notes.happened.get(event, 0) + 1

    async def _impact(self) -> None:
        hold_s = max((fault.hold for fault in self._scenario.faults), default=0.0)
        if not hold_s:
            return
        async with self.notes.phase("impact", hold_s):
            await asyncio.sleep(hold_s)
            for fault in self._scenario.faults:
                await fault.confirm_end(self._stage)
            self._count("fault-met")

    async def _heal(self) -> None:
        notes = self.notes
        self._mending.set()
        async with notes.phase("heal", HEAL_DEADLINE_S):
            called_at = self._now()
            session = self._stage.platform.session
            count = await safety.heal(self._bench.undo_log, session, self._undo)
            when = Interval(called_at, self._now())
            if count:
                self._stage.recorder.see(Source.HARNESS, Kind.HEALED, when)
            if notes.fault is not None:
                notes.fault = Interval(notes.fault.lo, when.hi)

    async def _recover(self) -> None:
        deadline_s, notes = self._scenario.deadlines.recover, self.notes
        self._looked_at = self._now()
        async with notes.phase("recover", deadline_s):
            since = notes.fault.hi if notes.fault is not None else 0.0

            async def well() -> bool:
                return self._restored() and self._flows_since(since)

            try:
                await until("recovery", well, deadline_s, poll_s=LOOK_S, hold_s=RECOVERED_HOLD_S)
            except Late as error:
                if notes.fault is None:
                    raise
                self._bench.progress.line(f"  {error}: {self._health.ill()}")
                return
            notes.recovered = True
        tail_s = self._scenario.workload.tail
        async with notes.phase("tail", tail_s):
            began_at = self._now()
            await asyncio.sleep(tail_s)
        if notes.fault is None:
            # Where nothing is broken the same is measured, of a time in which nothing was.
            notes.fault = Interval(began_at, self._now())

    def _restored(self) -> bool:
        """Tell whether all instances are back, and write down when that was first so."""
        now, recorder = self._now(), self._stage.recorder
        back = self._health.instances() is None and self._came_back()
        if back and not self._told and self.notes.fault is not None:
            recorder.see(Source.HARNESS, Kind.RESTORED, Interval(self._looked_at, now))
            self._told = True
        self._looked_at = now
        return back

    def _came_back(self) -> bool:
        """Tell whether as many instances were seen to become healthy as have ended."""
        found = self._stage.recorder.since(self.notes.began_at)
        ended = Counter(
            target.job
            for target in self.notes.targets
            if target.victim is not None and processes.state(target.processes[0]) is None
        )
        healthy = Counter(o.job for o in found if o.kind is Kind.HEALTHY)
        return all(healthy[job] >= count for job, count in ended.items())

    def _flows_since(self, since: float) -> bool:
        delivered = self._pulse.delivered_until
        return self._health.deliveries() is None and all(
            delivered.get(partition, 0.0) > since
            for partition in set(self._bench.partitions.values())
        )

    async def _account(self) -> None:
        """Once the fault is over, ask for what does not arrive; before, it is given time."""
        await self._mending.wait()
        await self._accounting.run()

    async def _beats(self) -> None:
        """Keep the pulse, and tell it once a second."""
        told_at, accepted, delivered = self._now(), 0, 0
        while True:
            try:
                await self._pulse.beat()
            except NO_ANSWER as error:
                self._stage.recorder.miss(Source.HARNESS, f"receipts: {error!r}"[:200])
            now, pulse = self._now(), self._pulse
            if now - told_at >= 1:
                passed_s = now - told_at
                self._bench.progress.pulse(
                    (pulse.acknowledged - accepted) / passed_s,
                    (pulse.delivered - delivered) / passed_s,
                    pulse.unseen,
                    pulse.p99_s(),
                )
                told_at, accepted, delivered = now, pulse.acknowledged, pulse.delivered
            await asyncio.sleep(BEAT_S)
