"""The load generator's own words are read right, and it sends what its plan says."""

import asyncio
import sys
import time
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from chaos.history import Outcome
from chaos.workload import Lane
from scripts.bench import k6
from scripts.bench.figures import Latency

HERE = Path(__file__).parent
RUN = "0123456789ab"
LANES = [
    Lane(conversation_id=f"conversation-{n}", sender_id="agent", address=f"1999{n}")
    for n in range(3)
]


def request(
    number: int, began_ms: int, ended_ms: int, status: int, late_ms: float = 0.0
) -> k6.Request:
    """Return a request."""
    return k6.Request(number, UUID(int=number), began_ms, ended_ms, late_ms, status)


def run_of(requests: list[k6.Request], dropped: int = 0) -> k6.Run:
    """Return a run of 10/s for 2 s with these requests."""
    latency = Latency(p50_ms=1.0, p95_ms=2.0, p99_ms=3.0, max_ms=4.0)
    plan = k6.plan("http://gateway/", RUN, LANES, 10, 2)
    return k6.Run(plan, k6.Summary(latency, len(requests), dropped), requests)


def test_a_recorded_summary_is_read() -> None:
    """A run that kept its schedule has latencies and no word about dropped requests."""
    found = k6.parse_summary((HERE / "summary.json").read_bytes())
    assert (found.requests, found.dropped) == (41, 0)
    assert 0 < found.latency.p50_ms < found.latency.p95_ms <= found.latency.p99_ms
    assert found.latency.p99_ms <= found.latency.max_ms


def test_a_recorded_summary_with_drops_is_read() -> None:
    """A run whose users were all waiting counts what it never began."""
    found = k6.parse_summary((HERE / "summary_with_drops.json").read_bytes())
    assert (found.requests, found.dropped) == (107, 54)
    assert found.latency.max_ms == pytest.approx(2046.546914)


def test_a_summary_of_another_shape_is_an_error() -> None:
    """What is no summary is not read as zeros."""
    with pytest.raises(KeyError):
        k6.parse_summary(b'{"metrics":{}}')


def test_recorded_lines_are_read() -> None:
    """A line is number, id, begin, end, lateness, status."""
    line = b'[10,"01a20929-52e2-73db-8698-00000000000a",1795450032866,1795450033531,1,202]\n\n'
    (found,) = k6.parse_requests(line)
    assert found.message_id == UUID("01a20929-52e2-73db-8698-00000000000a")
    assert found.message_id.version == 7
    assert (found.number, found.ended_ms - found.began_ms) == (10, 665)
    assert (found.late_ms, found.status) == (1, 202)


def test_a_torn_line_is_an_error() -> None:
    """A request that cannot be read is not left out."""
    with pytest.raises(msgspec.MsgspecError):
        k6.parse_requests(b'[10,"01a20929-52e2')


def test_requests_become_sends() -> None:
    """Lanes take turns, sequences rise within a lane, outcomes are the client's view."""
    answers = [202, 202, 429, 503, 0]
    sends = k6.sends_of(run_of([request(n, n, n + 5, s) for n, s in enumerate(answers)]))
    assert [(s.lane, s.sequence) for s in sends] == [
        ("conversation-0", 0),
        ("conversation-1", 0),
        ("conversation-2", 0),
        ("conversation-0", 1),
        ("conversation-1", 1),
    ]
    assert sends[3].content == f"{RUN} conversation-0 1"
    fail, info = Outcome.FAIL, Outcome.INFO
    assert [s.outcome for s in sends] == [Outcome.OK, Outcome.OK, fail, info, info]
    assert (sends[1].invoked_at, sends[1].returned_at) == (0.001, 0.006)


def test_the_achieved_rate_counts_only_what_was_accepted() -> None:
    """Errors are named and not achieved."""
    requests = [request(n, 100 * n, 100 * n + 5, 503 if n % 4 == 0 else 202) for n in range(20)]
    requests[1] = request(1, 100, 10_100, 0)
    load = k6.load_of(run_of(requests))
    assert load.errors == {"503": 5, "no answer": 1}
    assert load.acknowledged == 14
    assert load.achieved_per_s == pytest.approx(14 / 10.1)


def test_a_late_answer_lowers_the_achieved_rate() -> None:
    """The time until the last answer counts, and never less than the plan's."""
    requests = [request(n, 100 * n, 100 * n + 5, 202) for n in range(20)]
    assert k6.load_of(run_of(requests)).achieved_per_s == pytest.approx(10.0)
    requests[-1] = request(19, 1900, 4000, 202)
    assert k6.load_of(run_of(requests)).achieved_per_s == pytest.approx(5.0)


def test_lateness_is_that_of_the_latest_hundredth() -> None:
    """A few late starts among many do not show, more do."""
    requests = [request(n, n, n + 1, 202, 90.0 if n < 3 else 1.0) for n in range(200)]
    assert k6.load_of(run_of(requests)).late_p99_ms == 90.0
    assert k6.load_of(run_of(requests[2:])).late_p99_ms == 1.0


async def test_the_generator_sends_what_its_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real generator posts every number once, on time, and tells of each."""
    monkeypatch.setenv("CHAT4ALL_API_KEY", "key")
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.bench.echo"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    pids: list[int] = []
    try:
        url = f"http://127.0.0.1:{int(await server.stdout.readline())}"
        plan = k6.plan(url, RUN, LANES, 50, 1)
        assert not k6.has_begun(tmp_path)
        running = asyncio.create_task(k6.run(plan, tmp_path, pids.append))
        await k6.begun(running, lambda: k6.has_begun(tmp_path))
        assert k6.has_begun(tmp_path)
        begun_at = time.time()
        found = await running
    finally:
        server.stdin.close()
        await server.wait()
    assert len(pids) == 1
    assert begun_at < found.ended_at
    numbers = sorted(r.number for r in found.requests)
    assert numbers == list(range(len(numbers)))
    assert 45 <= len(numbers) <= 51
    assert {r.status for r in found.requests} == {202}
    assert found.summary.requests == len(numbers)
    assert len({send.content for send in k6.sends_of(found)}) == len(numbers)
