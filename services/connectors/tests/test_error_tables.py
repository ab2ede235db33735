"""Every row of each provider's error table, brought to its end: state, attempts, what users see.

The rows are the providers' own documentation; each is answered to a real connector, whose worker
keeps its delivery in a real PostgreSQL.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import pytest

from services.connectors.base import Verdict
from services.connectors.instagram.tests import test_connector as instagram
from services.connectors.results import Results
from services.connectors.sending import Sending
from services.connectors.telegram.tests import test_connector as telegram
from services.connectors.tests import doubles
from services.connectors.tests.bench import LANE, Bench, delivery
from services.connectors.whatsapp.tests import test_connector as whatsapp
from services.connectors.worker import ATTEMPTS_MAX, Tenure, Worker
from services.contracts.status import Status

pytestmark = pytest.mark.connected
LONG_S = 3600.0
AWAY, LATER, MAYBE, NEVER, STOP = (
    Verdict.RETRYABLE,
    Verdict.THROTTLED,
    Verdict.AMBIGUOUS,
    Verdict.FINAL,
    Verdict.ACCOUNT,
)
WHATSAPP: dict[Verdict, tuple[int, ...]] = {
    STOP: (0, 190, 3, 10, 200, 250, 299, 368, 131005, 131031, 131042, 131045, 133010, 133016),
    LATER: (4, 80007, 130429, 131048, 131056),
    AWAY: (2, 131016, 131053, 131057),
    MAYBE: (1, 131000),
    NEVER: (
        *(33, 100, 130472, 131008, 131009, 131021, 131026, 131047, 131049, 131051, 131052),
        *(132000, 132001, 132005, 132007, 132012, 132015, 132016),
    ),
}


class End(NamedTuple):
    """Where a delivery ends that is always answered the same."""

    state: str
    requests: int
    counted: int
    """Attempts that cost something."""
    seen: Status | None
    """None is PENDING: nothing else was told."""


ENDS = {
    AWAY: End("failed", ATTEMPTS_MAX, ATTEMPTS_MAX, Status.FAILED),
    LATER: End("pending", 1, 0, None),
    MAYBE: End("unknown", 1, 1, Status.UNKNOWN),
    NEVER: End("failed", 1, 1, Status.FAILED),
    STOP: End("pending", 1, 0, None),
}


class Line(NamedTuple):
    """A row of a table: a connector before a provider that answers so, and what it means."""

    made: Callable[[], tuple[Any, Any]]
    code: str
    verdict: Verdict


def lines() -> Iterator[Any]:
    """Yield every row of the three tables."""
    for verdict, codes in WHATSAPP.items():
        for code in codes:
            body = {"error": {"message": "why", "code": code}}
            made: Callable[[], tuple[Any, Any]] = partial(whatsapp.connector, 400, body)
            line = Line(made, f"provider_{code}", verdict)
            yield pytest.param(line, id=f"whatsapp {code}")
    for name, (code, subcode, verdict) in instagram.DOCUMENTED.items():
        error = {"message": "why", "code": code} | ({"error_subcode": subcode} if subcode else {})
        made = partial(instagram.connector, 400, {"error": error})
        told = f"provider_{code}" + (f"_{subcode}" if subcode else "")
        yield pytest.param(Line(made, told, verdict), id=f"instagram {name}")
    throttled = (429, "Too Many Requests: retry after 3", LATER, "too_many_requests")
    for status, text, verdict, told in (*telegram.ERRORS, throttled):
        answer = telegram.failed(status, text, **({"retry_after": 3} if status == 429 else {}))
        made = partial(telegram.connector, answer)
        yield pytest.param(Line(made, f"provider_{told}", verdict), id=f"telegram {text}")


async def exhaust(bench: Bench, connector: Any, accounts: doubles.Accounts) -> None:
    """Attempt the head of the lane until it is settled or waits at no cost, thrice at most."""
    clock = asyncio.get_running_loop().time
    sending = Sending(connector, cast("Any", accounts), limited=False, sends_max=1, clock=clock)
    results = Results(bench.outcomes, bench.reporter, bench.channel)
    worker = Worker(connector, bench.first, results, sending, clock)
    tenure = Tenure(LANE.partition, (await bench.first.own([LANE.partition], {}))[LANE.partition])
    tenure.open.set()
    for _ in range(ATTEMPTS_MAX):
        row = await bench.first.head(LANE)
        assert row is not None
        step = await worker.work(row, tenure)
        left = await bench.first.head(LANE)
        if step.settled or left is None or left.attempts == 0:
            break
        await bench.age(LONG_S)
    while not bench.reporter._waiting.empty():
        await bench.tell(bench.reporter._waiting.get_nowait())


@pytest.mark.parametrize("line", list(lines()))
async def test_every_error_ends_as_its_class_says(bench: Bench, line: Line) -> None:
    """Retried three times, waited for, left open, given up or kept for its account."""
    connector, provider = line.made()
    accounts = doubles.Accounts("main")
    row = delivery()
    await bench.first.take_in([row])
    await exhaust(bench, connector, accounts)
    found = await bench.pool.fetchrow(
        "select state, attempts, next_attempt_at > clock_timestamp() as waits"
        " from ledger.delivery where channel = $1",
        bench.channel,
    )
    assert found is not None
    end = ENDS[line.verdict]
    assert (found["state"], len(provider.asked), found["attempts"]) == end[:3]
    seen = None if end.seen is None else (0, end.seen, line.code)
    assert bench.users.sees(row) == seen
    assert [error.code for error in accounts.doubted] == [line.code] * (line.verdict is STOP)
    if line.verdict is LATER:
        assert found["waits"]
