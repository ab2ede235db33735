"""The load generator: k6 with a constant arrival rate, and what it says of its own run.

Arrivals are on schedule however the platform is doing (an open loop). Every request is written
down with its times, so that receipts can be held against them.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from chaos.history import Outcome, Send
from chaos.statistics import quantile
from chaos.waiting import until
from chaos.workload import Lane
from scripts.bench.figures import Latency, Load

SCRIPT = Path(__file__).with_name("load.js")
LOG = "log.jsonl"
USERS_MIN = 50
ANSWER_TIMEOUT_S = 10
START_AND_END_S = 30.0
REST_S = 3
SPARING = {"GOGC": "400", "GOMAXPROCS": "1"}
"""What it does would cost those who share its cores: looking for garbage, though its memory lasts
for the whole run, and handing each request from thread to thread."""
IN_TURN = ("chrt", "--batch", "0")
"""It interrupts nobody, as no part of the platform does, and is the next to run."""
PREFERRED_NICE = -10
ACCEPTED = 202
SERVER_ERROR = 500


class GeneratorFailed(Exception):  # noqa: N818 - a sentence for the person at the keyboard
    """The load generator is not there, or ended with an error of its own."""


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be sent: the lanes take turns. All users exist, and rest, before it begins."""

    url: str
    run: str
    rate_per_s: int
    seconds: int
    users: int
    timeout_s: int
    lanes: Sequence[Lane]
    rest_s: int = REST_S


class Request(NamedTuple):
    """One request, in milliseconds of this machine's clock; status 0 is no answer."""

    number: int
    message_id: UUID
    began_ms: int
    ended_ms: int
    late_ms: float
    status: int


class Summary(NamedTuple):
    """What k6 counted; the latency is that of the requests, without waiting for a connection."""

    latency: Latency
    requests: int
    dropped: int


class Run(NamedTuple):
    """What came of a plan."""

    plan: Plan
    summary: Summary
    requests: list[Request]

    @property
    def ended_at(self) -> float:
        """When the last answer came, in seconds since the epoch."""
        return max(request.ended_ms for request in self.requests) / 1000


def plan(url: str, run: str, lanes: Sequence[Lane], rate_per_s: int, seconds: int) -> Plan:
    """Return a plan with as many users as requests arrive in a second."""
    return Plan(
        url=f"{url.rstrip('/')}/api/v1/messages",
        run=run,
        rate_per_s=rate_per_s,
        seconds=seconds,
        users=max(USERS_MIN, rate_per_s),
        timeout_s=ANSWER_TIMEOUT_S,
        lanes=lanes,
    )


async def run(wanted: Plan, folder: Path, started: Callable[[int], None]) -> Run:
    """Carry out a plan; tell the generator's process as soon as it runs."""
    program = shutil.which("k6", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if program is None:
        raise GeneratorFailed("k6 is not installed in this environment: run `uv sync`.")
    plan_file, log, summary = (folder / name for name in ("plan.json", LOG, "summary.json"))
    plan_file.write_bytes(msgspec.json.encode(wanted))
    options = ("--quiet", "--no-usage-report", "--address", "", "--log-format", "raw")
    process = await asyncio.create_subprocess_exec(
        *(*IN_TURN, program, "run", *options, "--console-output", str(log), str(SCRIPT)),
        env={**os.environ, **SPARING, "PLAN": str(plan_file), "SUMMARY": str(summary)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    _prefer(process.pid)
    started(process.pid)
    try:
        async with asyncio.timeout(wanted.seconds + wanted.timeout_s + START_AND_END_S):
            _, errors = await process.communicate()
    except TimeoutError as error:
        raise GeneratorFailed("k6 did not come to its end.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise GeneratorFailed(f"k6 ended with {process.returncode}: {errors.decode()[-500:]}")
    requests = parse_requests(log.read_bytes())
    if not requests:
        raise GeneratorFailed("k6 sent nothing.")
    return Run(wanted, parse_summary(summary.read_bytes()), requests)


def _prefer(pid: int) -> None:
    """Let the generator go first: on a machine of its own nothing would keep it from its schedule.

    By priority or by its session's group, whichever the kernel goes by; where neither may be
    changed, a generator that was late is refused as ever.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, PREFERRED_NICE)
        Path(f"/proc/{pid}/autogroup").write_text(str(PREFERRED_NICE))


def has_begun(folder: Path) -> bool:
    """Tell whether a plan that is carried out in this folder has an answer already."""
    log = folder / LOG
    return log.exists() and log.stat().st_size > 0


async def begun(loading: asyncio.Task[Any], has_begun: Callable[[], bool]) -> None:
    """Return when a load has its first answer; one that is over is not waited for."""

    async def look() -> bool:
        return has_begun() or loading.done()

    await until("the first answer", look, START_AND_END_S)


def parse_summary(text: bytes) -> Summary:
    """Read k6's summary; it leaves out what it counted no time of."""
    metrics = msgspec.json.decode(text)["metrics"]
    duration = metrics["http_req_duration"]["values"]
    dropped = metrics.get("dropped_iterations", {"values": {"count": 0}})
    return Summary(
        Latency(
            p50_ms=duration["p(50)"],
            p95_ms=duration["p(95)"],
            p99_ms=duration["p(99)"],
            max_ms=duration["max"],
        ),
        requests=int(metrics["http_reqs"]["values"]["count"]),
        dropped=int(dropped["values"]["count"]),
    )


def parse_requests(lines: bytes) -> list[Request]:
    """Read the lines that the script wrote, one for each request."""
    decoder = msgspec.json.Decoder(Request)
    return [decoder.decode(line) for line in lines.splitlines() if line]


def sends_of(found: Run) -> list[Send]:
    """Return the requests as the judge of deliveries reads them, times since the epoch."""
    wanted = found.plan
    return [_send(wanted, wanted.lanes[r.number % len(wanted.lanes)], r) for r in found.requests]


def _send(wanted: Plan, lane: Lane, request: Request) -> Send:
    sequence = request.number // len(wanted.lanes)
    return Send(
        message_id=request.message_id,
        lane=lane.conversation_id,
        sequence=sequence,
        content=f"{wanted.run} {lane.conversation_id} {sequence}",
        invoked_at=request.began_ms / 1000,
        returned_at=request.ended_ms / 1000,
        outcome=_outcome(request.status),
        answer=str(request.status),
    )


def _outcome(status: int) -> Outcome:
    if status == ACCEPTED:
        return Outcome.OK
    return Outcome.FAIL if 0 < status < SERVER_ERROR else Outcome.INFO


def load_of(found: Run) -> Load:
    """Return what the generator did and was answered.

    The achieved rate is that of the messages that were accepted, until the last answer came.
    """
    began_at = min(request.began_ms for request in found.requests) / 1000
    errors: dict[str, int] = {}
    for request in found.requests:
        if request.status != ACCEPTED:
            name = str(request.status) if request.status else "no answer"
            errors[name] = errors.get(name, 0) + 1
    acknowledged = len(found.requests) - sum(errors.values())
    seconds = max(found.plan.seconds, found.ended_at - began_at)
    return Load(
        offered_per_s=found.plan.rate_per_s,
        seconds=found.plan.seconds,
        achieved_per_s=acknowledged / seconds,
        acknowledged=acknowledged,
        errors=errors,
        dropped=found.summary.dropped,
        late_p99_ms=quantile([request.late_ms for request in found.requests], 0.99),
        users_wait_ms=1000 * found.plan.users / found.plan.rate_per_s,
        acceptance=found.summary.latency,
    )
