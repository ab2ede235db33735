"""The command that shows backpressure: what it puts in, and how it judges what it measured."""

import os
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
import typer
from aiokafka import TopicPartition
from typer.testing import CliRunner

from chaos.adapters import processes
from chaos.adapters.nomad import Nomad, Victim
from chaos.adapters.provider import Provider
from chaos.backlog import __main__ as backlog
from chaos.backlog import figures
from chaos.backlog import memory as memory_module
from chaos.backlog import rows as rows_module
from chaos.backlog.__main__ import Field
from chaos.backlog.figures import MEMORY_GROWTH_MAX_BYTES, Felt, Scene, Unfit
from chaos.backlog.memory import Memory, resident_bytes
from chaos.backlog.rows import Backlog
from chaos.checkers.deliveries import judge
from chaos.history import Outcome, Receipt, Send
from chaos.verdicts import Valid
from chaos.waiting import Late
from services.contracts.records import DeliveryRequested, decode, encode

SCENE = Scene("PIGEON", "second", "main", "OWL")
MB = 2**20


def channel(name: str, *accounts: str, enabled: bool = True, status: str = "ENABLED") -> Any:
    """Return a channel as the API shows it."""
    shown = [{"account": account, "status": status} for account in accounts]
    return {"channel": name, "enabled": enabled, "accounts": shown}


def send(content: str, at: float, outcome: Outcome = Outcome.OK) -> Send:
    """Return a message that was sent at a time."""
    lane, sequence = content.rsplit(" ", 1)
    return Send(
        message_id=uuid4(),
        lane=lane,
        sequence=int(sequence),
        content=content,
        invoked_at=at,
        returned_at=at + 0.1,
        outcome=outcome,
        answer="",
    )


def receipt(seq: int, text: str, at: float, *, kept: bool = True) -> Receipt:
    """Return what the provider wrote down of a request."""
    return Receipt(seq=seq, received_at=at, answered_at=at, to="1", text=text, kept=kept)


def way(*delays_s: float, sent: int | None = None) -> Felt:
    """Return what messages felt that took so long; the rest of those sent never arrived."""
    count = len(delays_s) if sent is None else sent
    return Felt(way="OWL", sent=count, accepted=count, delays_s=list(delays_s))


def test_a_channel_with_two_accounts_is_chosen() -> None:
    """One account is throttled; one beside it and another channel must not notice."""
    two = channel("PIGEON", "second", "main")
    assert figures.choose([channel("OWL", "main"), two], None) == SCENE
    assert figures.choose([two, channel("OWL", "a", "b")], "OWL").channel == "OWL"


@pytest.mark.parametrize(
    ("channels", "wanted", "why"),
    [
        ([channel("OWL", "main"), channel("EMU", "main")], None, "No channel has two accounts"),
        ([channel("OWL", "main"), channel("EMU", "a", "b")], "OWL", "OWL has two accounts"),
        ([channel("OWL", "a", "b")], None, "no channel beside OWL"),
        ([channel("OWL", "a", "b"), channel("EMU", "a", enabled=False)], None, "beside OWL"),
        ([channel("OWL", "a", "b", status="SUSPENDED"), channel("EMU", "a")], None, "No channel"),
        ([channel("OWL", "a", "b")], "EMU", "EMU takes no messages"),
    ],
)
def test_what_shows_nothing_is_refused(channels: list[Any], wanted: str | None, why: str) -> None:
    """Without two accounts that may send and another channel nothing could be compared."""
    with pytest.raises(Unfit, match=why):
        figures.choose(channels, wanted)


def test_what_a_way_felt_is_measured_at_its_provider() -> None:
    """The first request that was kept counts; what was refused or is not ours does not."""
    sends = [send("x 0", 10.0), send("x 1", 11.0), send("x 2", 12.0, Outcome.INFO)]
    receipts = [
        receipt(1, "x 0", 10.2, kept=False),
        receipt(2, "x 0", 10.5),
        receipt(3, "x 0", 19.0),
        receipt(4, "y 0", 11.0),
    ]
    found = figures.felt("OWL", sends, receipts)
    assert (found.sent, found.accepted, found.delays_s) == (3, 2, [0.5])
    assert not found.whole


@pytest.mark.parametrize(
    ("before", "during", "valid"),
    [
        (way(0.1), way(0.2), Valid.TRUE),
        (way(0.1), way(*[0.1] * 19, 9.0), Valid.TRUE),
        (way(0.1), way(*[0.1] * 18, 9.0, 9.0), Valid.FALSE),
        (way(0.1), way(2.0), Valid.FALSE),
        (way(0.1), way(0.1, sent=2), Valid.FALSE),
        (way(0.1), way(), Valid.FALSE),
        (way(0.1, sent=2), way(0.1), Valid.UNKNOWN),
        (way(), way(0.1), Valid.UNKNOWN),
    ],
)
def test_the_others_stay_fast(before: Felt, during: Felt, valid: Valid) -> None:
    """The p95 beside the backlog is below its bound and nothing is missing."""
    assert figures.swift(before, during).valid is valid


def test_the_ratio_is_told() -> None:
    """How much slower a way became stands beside both figures."""
    told = figures.swift(way(0.1), way(0.25)).reason
    assert "100 ms before, 250 ms beside the backlog (x 2.50)" in told


@pytest.mark.parametrize(
    ("later", "valid"),
    [
        ([{"a": 150 * MB, "b": 130 * MB}], Valid.TRUE),
        ([{"a": 150 * MB, "b": 1}, {"a": 100 * MB + MEMORY_GROWTH_MAX_BYTES, "b": 1}], Valid.FALSE),
        ([{"a": 100 * MB + MEMORY_GROWTH_MAX_BYTES, "b": 1}, {"a": 100 * MB, "b": 1}], Valid.FALSE),
        ([{"a": 1, "new": 90 * MB + MEMORY_GROWTH_MAX_BYTES}], Valid.FALSE),
        ([{"a": 100 * MB, "b": 1}, {"a": 100 * MB}], Valid.UNKNOWN),
        ([{"a": 100 * MB, "b": 1}, {}], Valid.UNKNOWN),
        ([], Valid.UNKNOWN),
    ],
)
def test_memory_is_flat_at_every_moment(later: list[dict[str, int]], valid: Valid) -> None:
    """One process that grew too much at one moment breaks it; an unmeasured one decides nothing."""
    noted = {"before": {"a": 100 * MB, "b": 90 * MB}}
    noted |= {f"moment {number}": used for number, used in enumerate(later)}
    assert figures.memory(noted).valid is valid
    assert figures.memory({**noted, "before": {}}).valid is Valid.UNKNOWN


@pytest.mark.parametrize(
    ("states", "valid"),
    [
        ({"pending": 9, "sending": 1}, Valid.TRUE),
        ({"pending": 9}, Valid.FALSE),
        ({"pending": 11}, Valid.FALSE),
        ({"pending": 9, "sent": 1}, Valid.FALSE),
        ({"pending": 9, "unknown": 1}, Valid.FALSE),
        ({}, Valid.FALSE),
    ],
)
def test_the_whole_backlog_waits(states: dict[str, int], valid: Valid) -> None:
    """Each delivery is there, once and not settled."""
    assert figures.waiting("now", states, 10).valid is valid


@pytest.mark.parametrize(
    ("ready_s", "valid"),
    [
        ({"a": 3.0, "b": 9.9}, Valid.TRUE),
        ({"a": 3.0, "b": 10.0}, Valid.FALSE),
        ({"a": 3.0, "b": None}, Valid.FALSE),
        ({}, Valid.UNKNOWN),
    ],
)
def test_each_instance_is_ready_in_time(ready_s: dict[str, float | None], valid: Valid) -> None:
    """The slowest decides, and one that never came back too."""
    assert figures.restarted(ready_s).valid is valid


def test_a_restart_ends_with_deliveries() -> None:
    """What is not delivered after the restart is not explained away."""
    assert figures.after_restart(way(0.1, 0.2), 7.5).valid is Valid.TRUE
    assert figures.after_restart(way(0.1, sent=2), 7.5).valid is Valid.FALSE


@pytest.mark.parametrize(
    ("hits", "kept", "valid"),
    [(5, 0, Valid.TRUE), (0, 0, Valid.UNKNOWN), (5, 1, Valid.UNKNOWN)],
)
def test_a_throttle_that_was_not_met_or_leaks_shows_nothing(
    hits: int, kept: int, valid: Valid
) -> None:
    """The account must have been refused, and always."""
    assert figures.throttle(hits, kept).valid is valid


def test_what_left_the_backlog_is_counted_by_its_run() -> None:
    """Requests that were refused and messages of others do not count."""
    receipts = [
        receipt(1, "run 0 0", 1.0),
        receipt(2, "run 0 1", 1.0, kept=False),
        receipt(3, "other 0 0", 1.0),
    ]
    assert figures.leaked(receipts, ["run"]) == 1
    assert figures.leaked(receipts, ["run", "other"]) == 2
    assert figures.removed(0).valid is Valid.TRUE
    assert figures.removed(1).valid is Valid.FALSE


@pytest.mark.parametrize(
    ("texts", "valid"),
    [
        (["x 0", "x 1"], Valid.TRUE),
        (["x 1", "x 0"], Valid.FALSE),
        (["x 0", "x 1", "x 1"], Valid.FALSE),
        (["x 0"], Valid.FALSE),
        (["x 0", "x 1", "x 2"], Valid.FALSE),
    ],
)
def test_the_sample_drains_in_order_once_each(texts: list[str], valid: Valid) -> None:
    """The provider's receipts decide."""
    sends = [send("x 0", 1.0), send("x 1", 2.0)]
    receipts = [receipt(seq, text, 9.0 + seq) for seq, text in enumerate(texts, 1)]
    assert figures.drained(judge(sends, receipts, {})).valid is valid


def test_a_sample_that_nobody_took_shows_nothing() -> None:
    """Without a promise there is none to be kept."""
    sends = [send("x 0", 1.0, Outcome.FAIL)]
    assert figures.drained(judge(sends, [], {})).valid is Valid.UNKNOWN


def test_a_backlog_is_spread_over_its_lanes() -> None:
    """Each lane has one customer and its share, in order, on the throttled account only."""
    lanes = defaultdict(list)
    found = list(rows_module.records(SCENE, "run", 10, 3))
    for record in found:
        assert isinstance(decode(encode(record)), DeliveryRequested)
        assert (record.channel, record.account) == ("PIGEON", "second")
        assert record.address.isdecimal()
        assert len(record.address) <= 15
        lanes[record.conversation_id, record.recipient_id, record.address].append(record.content)
    assert sorted(map(len, lanes.values())) == [3, 3, 4]
    for lane, texts in enumerate(lanes.values()):
        assert texts == [f"run {lane} {number}" for number in range(len(texts))]
    assert len({record.message_id for record in found}) == 10


class Kafka:
    """A topic with one record in a partition, whose group moves on with each look."""

    def __init__(self, steps: list[int]) -> None:
        self.committed = steps

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where each partition ends."""
        return {partition: 5 if partition.partition == 3 else 0 for partition in partitions}

    async def list_consumer_group_offsets(self, group: str) -> dict[TopicPartition, Any]:
        """Return what the group has committed now: at first nothing."""
        assert group == "connector-pigeon"
        offset = self.committed.pop(0)
        found = {TopicPartition("outbound.pigeon", 3): SimpleNamespace(offset=offset)}
        return found if offset else {}


async def test_the_intake_is_over_when_the_offsets_are_behind_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group without offsets, or behind by one, has not taken everything in."""
    monkeypatch.setattr(rows_module, "POLL_S", 0.0)
    kafka = Kafka([0, 4, 5, 9])
    rows = Backlog(SCENE, "", kafka, kafka, cast("Any", None))
    left: list[int] = []
    await rows.taken_in(left.append)
    assert left == [5, 1, 0]


class Unremovable:
    """A backlog whose rows cannot be deleted."""

    is_empty = False
    by_hand = "delete by hand"

    async def take_out(self) -> None:
        """Fail."""
        raise Late("the removal did not happen")


class Removed:
    """A backlog that can be taken out, and notes when."""

    is_empty = False

    def __init__(self, done: list[str]) -> None:
        self._done = done

    async def take_out(self) -> None:
        """Succeed."""
        self._done.append("taken out")


@pytest.mark.parametrize(("removable", "wanted"), [(True, ["taken out", "lifted"]), (False, [])])
async def test_the_throttle_is_lifted_only_behind_the_backlog(
    removable: bool,  # noqa: FBT001
    wanted: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rows that could not be deleted are never sent; how to delete them is told."""
    done: list[str] = []

    class Lifted(Provider):
        async def clear_faults(self) -> None:
            done.append("lifted")

    rows = Removed(done) if removable else Unremovable()
    provider = Lifted("http://provider", cast("Any", None), cast("Any", None))
    await backlog._clean(cast("Field", SimpleNamespace(backlog=rows, provider=provider)))
    assert done == wanted
    assert ("delete by hand" in capsys.readouterr().out) is not removable


def test_memory_is_what_a_process_holds() -> None:
    """Pages that are written count."""
    before = resident_bytes(os.getpid())
    held = bytearray(os.urandom(1)) * (32 * MB)
    assert 16 * MB < resident_bytes(os.getpid()) - before < 64 * MB
    assert len(held) == 32 * MB


async def test_memory_follows_a_process_that_was_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new one counts, a task without a process left out, the most of a moment kept."""
    used, alive = {1: 100, 2: 30}, {1}
    task = Victim(job="connector-pigeon", allocation="a", task="connector")

    async def running(_job: str) -> list[Victim]:
        return [task]

    def of_task(allocation: str, _task: str) -> list[processes.Process]:
        if not alive:
            raise processes.NotHere(allocation)
        return [processes.Process(pid, 0) for pid in alive]

    monkeypatch.setattr(processes, "of_task", of_task)
    monkeypatch.setattr(memory_module, "resident_bytes", used.__getitem__)
    memory = Memory(cast("Nomad", SimpleNamespace(running=running)), task.job)
    await memory.note("before")
    used[1] = 70
    await memory.note("before")
    alive.clear()
    await memory.note("killed")
    alive.add(2)
    await memory.note("after")
    assert memory.noted == {"before": {"a": 100}, "killed": {}, "after": {"a": 30}}


def test_without_a_platform_nothing_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what is missing, and the exit code that nothing was judged."""
    monkeypatch.delenv("CHAT4ALL_URL", raising=False)
    app = typer.Typer()
    app.command()(backlog.main)
    found = CliRunner().invoke(app, [])
    assert found.exit_code == 2
    assert "CHAT4ALL_URL is not set" in found.output


def test_a_crash_of_the_command_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command itself does wrong ends with 255, not as a broken promise."""
    monkeypatch.setattr(backlog, "connect", lambda: 1 / 0)
    app = typer.Typer()
    app.command()(backlog.main)
    assert CliRunner().invoke(app, []).exit_code == 255
