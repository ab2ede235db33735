"""The end of a repeat: what is still under way arrives, everything is judged."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from chaos import rebalances
from chaos.adapters import NO_ANSWER
from chaos.bench import Notes
from chaos.checkers.deliveries import Judgement, judge
from chaos.checkers.statuses import StatusSeen, went_back
from chaos.checkers.survivors import fewest
from chaos.checking import Found, check
from chaos.history import FinalState
from chaos.locator import stories
from chaos.pulse import BEAT_S, Pulse, Witness
from chaos.results import Repeat, measured
from chaos.timeline import Facts, derive, metrics
from chaos.verdicts import overall
from chaos.waiting import Late, until
from chaos.workload import Workload

CHECK_S = 2.0
CLOCK_STEP_MAX_S = 0.005
SETTLED_HOLD_S = 1.0
"""What would be delivered twice may come a little later."""


class Closing:
    """Drains and judges one repeat."""

    def __init__(
        self, notes: Notes, workload: Workload, pulse: Pulse, witnesses: Sequence[Witness]
    ) -> None:
        self._notes = notes
        self._bench = notes.bench
        self._workload = workload
        self._pulse = pulse
        self._witnesses = witnesses
        self._states: Mapping[UUID, FinalState] = {}
        self._unread = ""
        """Why receipts may be missing that a provider has."""

    async def drain(self) -> None:
        """Return when every message has arrived or is accounted for, or at the deadline."""
        deadline_s = self._bench.scenario.deadlines.drain

        async def empty() -> bool:
            try:
                await self._pulse.beat()
            except NO_ANSWER as error:
                self._unread = f"the witness could not be read: {error!r}"
                return False
            self._unread = ""
            return self._pulse.unseen == 0

        async with self._notes.phase("drain", deadline_s):
            try:
                await until(
                    "the arrival of every message",
                    empty,
                    deadline_s,
                    hold_s=SETTLED_HOLD_S,
                    poll_s=BEAT_S,
                )
            except Late as error:
                self._bench.progress.line(f"  {error}")
        if self._unread:
            self._notes.problems.append(self._unread)

    async def _judge(self) -> Judgement:
        run, sends = self._workload.run_id, self._workload.sends
        receipts = [r for w in self._witnesses for r in w.receipts if r.text.startswith(run)]
        self._notes.sends, self._notes.receipts = sends, receipts
        missing = judge(sends, receipts, {}).lost
        self._states = await self._bench.stage.platform.api.final_states(missing)
        return judge(sends, receipts, self._states)

    async def check(self, seen: Sequence[StatusSeen]) -> Repeat:
        """Judge the repeat; what was lost or how long it took nobody knows without receipts."""
        notes, scenario = self._notes, self._bench.scenario
        self._bench.progress.phase("check", CHECK_S)
        judgement = await self._judge()
        await self._check_sources()
        facts = self._facts()
        line = derive(facts)
        notes.happened["rebalance"] = sum(e.end is not None for e in line.episodes)
        notes.happened["hit-in-rebalance"] = sum(
            rebalances.during(line.episodes, hit.at) for hit in facts.hits
        )
        found = Found(
            judgement=judgement,
            metrics={} if self._unread else metrics(line, facts),
            counts=self._counts(judgement, seen),
            happened=notes.happened,
            problems=notes.problems + line.problems,
        )
        verdicts = check(scenario, found)
        told = {} if self._unread else stories(judgement, facts.sends, self._states, facts.receipts)
        return Repeat(
            number=self._bench.stage.repeat + 1,
            valid=overall(verdict.valid for verdict in verdicts),
            began_at=notes.began_at,
            ended_at=self._bench.clock.now(),
            load_ended_at=notes.load_ended_at,
            verdicts=verdicts,
            metrics={name: measured(value) for name, value in found.metrics.items()},
            counts=dict(found.counts),
            phases=notes.phases,
            problems=list(found.problems),
            stories=told,
            targets=[target.what for target in notes.targets],
            hits=self._bench.stage.hits,
            fault=measured(notes.fault) if notes.fault is not None else None,
        )

    async def _check_sources(self) -> None:
        """Doubt a repeat whose witness or clock cannot be believed."""
        hit = any(target.job.startswith("provider-") for target in self._notes.targets)
        for witness in self._witnesses:
            try:
                await witness.check()
            except NO_ANSWER as error:
                self._notes.problems.append(f"the witness could not be read: {error!r}")
            if witness.restarted and not hit:
                self._notes.problems.append("the witness restarted: receipts may be missing")
        stepped_s = self._bench.clock.stepped_s()
        if stepped_s > CLOCK_STEP_MAX_S:
            self._notes.problems.append(f"the wall clock moved by {stepped_s:.3f} s")

    def _facts(self) -> Facts:
        return Facts(
            observations=self._bench.stage.recorder.since(self._notes.began_at),
            sends=self._notes.sends,
            receipts=self._notes.receipts,
            partition_of=self._bench.partitions,
            hits=self._bench.stage.hits,
            began_at=self._notes.began_at,
            fault=self._notes.fault,
            ended_at=self._notes.load_ended_at,
        )

    def _counts(self, judgement: Judgement, seen: Sequence[StatusSeen]) -> dict[str, int]:
        notes = self._notes
        counts = {
            "acknowledged": judgement.acknowledged,
            "sent": len(notes.sends),
            "delivered": judgement.delivered,
            "open": len(judgement.open),
            "lost": len(judgement.lost),
            "doubled": len(judgement.doubled),
            "reordered": len(judgement.reordered),
            "recovered": judgement.recovered,
            "repeated": judgement.repeated,
            "status_looks": len(seen),
            "status_back": len(went_back(seen)),
        }
        if self._unread:
            del counts["lost"]
        if notes.fault is not None:
            counts["manual_steps"] = 0 if notes.recovered else 1
        recorder, hits = self._bench.stage.recorder, self._bench.stage.hits
        observations = recorder.since(notes.fault.lo) if notes.fault is not None else []
        left = [
            min(
                fewest(running, observations, job),
                len(running) - len({hit.instance for hit in hits if hit.job == job}),
            )
            for job, running in notes.running.items()
        ]
        return {**counts, "survivors": min(left)} if left else counts
