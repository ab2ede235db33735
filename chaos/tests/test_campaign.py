"""Whole campaigns on a platform in memory: what passes, what fails, and that all is healed."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError

from chaos import archive, closing, runner, safety, scenario
from chaos.adapters import observers, processes
from chaos.adapters.kafka import GroupState
from chaos.campaign import EVICTION_KEY, Campaign, Options
from chaos.faults.down import Down
from chaos.faults.kill import Kill
from chaos.observations import Kind
from chaos.progress import Progress
from chaos.report import page
from chaos.results import Results
from chaos.scenario import Scenario
from chaos.tests.fake_platform import EVICTED_AFTER_S, FakeGroups, FakePlatform
from chaos.undo import Resume, World
from chaos.units import PerSecond, Seconds
from chaos.verdicts import Valid
from services.contracts.topics import PARTITIONS

pytestmark = [pytest.mark.connected, pytest.mark.timeout(60)]
replace = msgspec.structs.replace


@pytest.fixture
async def platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakePlatform]:
    """Lend a platform in memory, and point the suite at it."""
    found = FakePlatform()
    await found.start()
    for name in ("CHAT4ALL_URL", "NOMAD_ADDR", "CONSUL_HTTP_ADDR"):
        monkeypatch.setenv(name, found.url)
    monkeypatch.setenv("CHAT4ALL_API_KEY", "made up")
    monkeypatch.setattr(FakeGroups, "platform", found, raising=False)
    monkeypatch.setattr(observers, "Groups", FakeGroups)
    monkeypatch.setattr(safety, "folder", lambda: tmp_path)
    monkeypatch.setattr(runner, "RECOVERED_HOLD_S", 0.2)
    monkeypatch.setattr(closing, "SETTLED_HOLD_S", 0.2)
    yield found
    await found.stop()


def short(name: str, wait_s: float = 8, **more: Any) -> Scenario:
    """Return a scenario with less load, which waits so long for what may never happen."""
    found = scenario.load(name)
    load = replace(found.workload, rate=PerSecond(250), conversations=40, tail=Seconds(0.2))
    deadlines = scenario.Deadlines(
        steady=Seconds(wait_s), inject=Seconds(9), recover=Seconds(15), drain=Seconds(wait_s)
    )
    steady = replace(found.steady, hold=Seconds(0.3))
    return replace(found, workload=load, deadlines=deadlines, steady=steady, **more)


async def campaign(found: Scenario, folder: Path, **options: Any) -> Results:
    """Run a campaign."""
    return await Campaign(found, Options(**options), Progress(), folder).run()


async def test_a_kill_is_survived_and_measured(platform: FakePlatform, tmp_path: Path) -> None:
    """Two repeats pass, with figures in all stages, and leave files that make a report."""
    del platform
    folder = tmp_path / "run"
    results = await campaign(short("kill-router"), folder, repeats=2)
    assert results.valid is Valid.TRUE, results.sentence
    for repeat in results.repeats:
        found = {name: value.interval for name, value in repeat.metrics.items()}
        assert found["detection_s"].hi > EVICTED_AFTER_S
        assert found["detection_s"].lo <= found["failover_s"].hi
        assert found["rebalance_s"].hi < found["restored_s"].hi
        assert repeat.counts["survivors"] == 2
        assert repeat.counts["lost"] == repeat.counts["doubled"] == 0
        text = Path(archive.__file__).with_name("README.md").read_text()
        assert not [name for name in repeat.counts if f"`{name}`" not in text]
    read = archive.read(folder)
    assert read == results
    html = page.write(folder, [read]).read_text()
    for heading in ("Anatomy", "Partitions", "Delivery latency", "Lag of the group", "Evidence"):
        assert heading in html
    assert "No message was kept twice" in html
    lag = [o for o in archive.observations(folder) if o.kind is Kind.LAG]
    assert {o.group for o in lag} == {"router", "connector-pigeon"}
    assert all(len(o.partitions) == len(o.lag) == PARTITIONS for o in lag)
    assert (folder / archive.JUNIT).read_text().count("<testcase") == 2


@pytest.mark.parametrize("mistake", ["double", "lose"])
async def test_a_bad_platform_fails(platform: FakePlatform, tmp_path: Path, mistake: str) -> None:
    """A message that is kept twice, or acknowledged and gone, fails the campaign and is named."""
    setattr(platform, mistake, True)
    results = await campaign(short("baseline", 1.2), tmp_path / "run", repeats=1)
    assert results.valid is Valid.FALSE
    promise = {"double": "doubled", "lose": "lost"}[mistake]
    assert results.repeats[0].counts[promise] == 1
    assert promise in results.sentence
    if mistake == "lose":
        assert "the provider never had it" in next(iter(results.repeats[0].stories.values()))


async def test_who_cannot_read_the_receipts_judges_nothing(
    platform: FakePlatform, tmp_path: Path
) -> None:
    """Messages whose receipts nobody could look at are not lost, and the run proves nothing."""
    platform.unread_after = 150
    results = await campaign(short("baseline", 3), tmp_path / "run", repeats=1)
    assert results.valid is Valid.UNKNOWN
    (repeat,) = results.repeats
    assert "lost" not in repeat.counts
    assert not repeat.stories
    assert any("the witness could not be read" in problem for problem in repeat.problems)
    assert "could not be read at the end" in results.sentence
    assert "lost" in page.write(tmp_path / "run", [results]).read_text()


@pytest.mark.parametrize("broken", ["write", "append_history", "append_observations"])
async def test_a_full_disk_changes_no_verdict(
    platform: FakePlatform,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    """What was judged stands when it cannot be written, and that is told."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    platform.double = True
    monkeypatch.setattr(archive, broken, fail)
    results = await campaign(short("baseline", 1.2), tmp_path / "run", repeats=1)
    assert results.valid is Valid.FALSE
    assert "No space left on device" in capsys.readouterr().out.replace("\n", " ")


async def test_a_kill_can_wait_for_a_rebalance(platform: FakePlatform, tmp_path: Path) -> None:
    """The second kill falls into the rebalance after the first; without that nothing is proved."""
    platform.rebalance_s = 0.1
    found = short("kill-during-rebalance")
    results = await campaign(found, tmp_path / "during", repeats=1)
    assert results.valid is Valid.TRUE, results.sentence
    later = [found.faults[0], Kill(job="router", after=Seconds(2))]
    results = await campaign(replace(found, faults=later), tmp_path / "later", repeats=1)
    assert results.valid is Valid.UNKNOWN
    reasons = [verdict.reason for verdict in results.repeats[0].verdicts if verdict.reason]
    assert reasons == ["hit-in-rebalance happened 0 times, and must 1 times"]


async def test_a_broker_that_is_away_delays_the_look_for_a_rebalance(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first looks after the first kill meet no broker; the second kill still falls into one."""
    platform.rebalance_s = 0.1
    describe, away = FakeGroups.describe, [KafkaConnectionError("the broker is away")] * 10

    async def later(self: FakeGroups, group: str) -> GroupState:
        if away and any(router.returncode is not None for router in platform.routers.values()):
            raise away.pop()
        return await describe(self, group)

    monkeypatch.setattr(FakeGroups, "describe", later)
    found = short("kill-during-rebalance")
    results = await campaign(found, tmp_path / "run", repeats=1)
    assert results.valid is Valid.TRUE, results.sentence
    assert not away


async def test_only_a_group_can_rebalance(platform: FakePlatform, tmp_path: Path) -> None:
    """A job without a consumer group is refused before anything is killed."""
    found = short("kill-during-rebalance")
    faults = [found.faults[0], Kill(job="provider-pigeon", during="rebalance")]
    results = await campaign(replace(found, faults=faults), tmp_path / "run", repeats=1)
    assert results.valid is Valid.UNKNOWN
    assert "provider-pigeon has no consumer group" in results.sentence
    assert not results.repeats or not results.repeats[0].hits
    assert all(router.returncode is None for router in platform.routers.values())


async def test_the_control_passes(platform: FakePlatform, tmp_path: Path) -> None:
    """Where nothing is broken everything holds, and a switch is set back afterwards."""
    platform.kv[EVICTION_KEY] = "true"
    results = await campaign(short("baseline"), tmp_path / "run", repeats=1, eviction=False)
    assert results.valid is Valid.TRUE, results.sentence
    assert platform.kv[EVICTION_KEY] == "true"


async def test_a_paused_router_goes_on_afterwards(platform: FakePlatform, tmp_path: Path) -> None:
    """A pause is confirmed in the kernel, felt, and over after the heal."""
    faults = [replace(scenario.load("pause-router").faults[0], hold=Seconds(1))]
    found = short("pause-router-briefly", faults=faults)
    results = await campaign(found, tmp_path / "run", repeats=1)
    assert results.valid is Valid.TRUE, results.sentence
    assert results.repeats[0].metrics["latency_max_s"].interval.lo > 0.8
    for router in platform.routers.values():
        assert processes.state(processes.identify(router.pid) or processes.Process(0, 0)) != "T"


async def test_a_provider_is_let_behave_again(platform: FakePlatform, tmp_path: Path) -> None:
    """A fault of the provider is set, met and taken away."""
    faults = [replace(scenario.load("kept-but-answer-lost").faults[0], hold=Seconds(0.5))]
    results = await campaign(
        short("kept-but-answer-lost", faults=faults), tmp_path / "run", repeats=1
    )
    assert results.valid is Valid.TRUE, results.sentence
    assert not platform.faults


@pytest.mark.parametrize(("shown", "valid"), [("UNKNOWN", Valid.TRUE), ("SENT", Valid.FALSE)])
async def test_what_is_visibly_unknown_holds_up_no_recovery(
    platform: FakePlatform, tmp_path: Path, shown: str, valid: Valid
) -> None:
    """Messages that the provider refused are accounted for when they are shown as unknown.

    Without that they are lost, and the platform has not recovered by itself.
    """
    platform.shown = shown
    faults = [replace(scenario.load("provider-500").faults[0], hold=Seconds(1))]
    found = short("provider-500", 2, faults=faults)
    steady = replace(found.steady, delivery_p99=Seconds(0.5))
    deadlines = replace(found.deadlines, recover=Seconds(4))
    results = await campaign(
        replace(found, steady=steady, deadlines=deadlines), tmp_path / "run", repeats=1
    )
    assert results.valid is valid, results.sentence
    counts = results.repeats[0].counts
    broken = valid is Valid.FALSE
    assert counts["manual_steps"] == broken
    assert counts["lost" if broken else "open"] > 10
    assert not counts["open" if broken else "lost"]


@pytest.mark.parametrize("job", ["message", "kafka"])
async def test_a_job_that_was_down_is_started_again(
    platform: FakePlatform, tmp_path: Path, job: str
) -> None:
    """A dependency is stopped, stays away for a while, and is there again after the heal.

    Observers that are blind meanwhile see again afterwards.
    """
    faults = [Down(job=job, hold=Seconds(0.6))]
    results = await campaign(short("redis-down", faults=faults), tmp_path / "run", repeats=1)
    assert results.valid is Valid.TRUE, results.sentence
    assert not platform.stopped
    assert results.repeats[0].targets == [f"the job {job}"]


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda p: setattr(p, "allowed", False), "does not allow chaos"),
        (lambda p: setattr(p, "stable", False), "a steady state did not happen"),
    ],
)
async def test_what_must_not_be_broken_is_refused(
    platform: FakePlatform, tmp_path: Path, prepare: Any, said: str
) -> None:
    """A job that forbids it and a platform that is not well are left alone, without a verdict."""
    prepare(platform)
    before = {router.pid for router in platform.routers.values()}
    results = await campaign(short("kill-router", 1.2), tmp_path / "run", repeats=1)
    assert results.valid is Valid.UNKNOWN
    assert said in results.sentence
    assert {router.pid for router in platform.routers.values()} == before


async def test_too_few_survivors_are_refused(platform: FakePlatform, tmp_path: Path) -> None:
    """A fault that would leave nobody is not injected where somebody must survive."""
    del platform
    found = short("kill-routers-all", guards=scenario.Guards(min_survivors=1))
    results = await campaign(found, tmp_path / "run", repeats=1)
    assert results.valid is Valid.UNKNOWN
    assert "would leave 0 survivors" in results.sentence


async def test_a_link_without_a_proxy_is_refused(platform: FakePlatform, tmp_path: Path) -> None:
    """Latency on a link that is not proxied is refused before anything runs."""
    del platform
    found = short("latency-router-kafka-1s")
    results = await campaign(found, tmp_path / "run", repeats=1)
    assert results.valid is Valid.UNKNOWN
    assert "just up --links proxied" in results.sentence


async def test_an_interruption_heals(platform: FakePlatform, tmp_path: Path) -> None:
    """When a campaign is cancelled in the middle of a fault, the fault is taken back."""
    faults = [replace(scenario.load("pause-router").faults[0], hold=Seconds(30))]
    found = short("pause-router-briefly", faults=faults)
    running = asyncio.create_task(campaign(found, tmp_path / "run", repeats=1))

    def stopped() -> bool:
        found = [processes.identify(router.pid) for router in platform.routers.values()]
        return any(process and processes.state(process) == "T" for process in found)

    async with asyncio.timeout(20):
        while not stopped():
            await asyncio.sleep(0.02)
    running.cancel()
    results = await running
    assert results.interrupted
    assert results.valid is Valid.UNKNOWN
    assert not stopped()


async def test_a_killed_harness_is_healed_by_the_dead_man(tmp_path: Path) -> None:
    """When the runner's pipe closes, what the undo log holds is taken back by the other process."""
    victim = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])  # noqa: ASYNC220
    try:
        process = processes.identify(victim.pid)
        assert process is not None
        log = safety.UndoLog(tmp_path / "undo-unit.jsonl")
        log.add(World("http://127.0.0.1:1", "http://127.0.0.1:1"), Resume([process]))
        with log.path.open("a") as file:
            file.write('{"id": 2, "torn')
        os.kill(victim.pid, signal.SIGSTOP)
        dead_man = safety.DeadMan(log.path)
        assert dead_man._process.stdin is not None
        dead_man._process.stdin.close()
        async with asyncio.timeout(15):
            while log.pending() or processes.state(process) == "T":
                await asyncio.sleep(0.02)
        dead_man._process.wait(timeout=15)
    finally:
        victim.kill()
        victim.wait()
