"""Scripted misbehaviour: which request or webhook goes wrong, how, and how many times."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from services.connectors.simulator_webhooks import Timed

HANG_MAX_S = 600.0
DUPLICATE_DELAY_S = 0.2
REORDER_DELAY_S = 0.5
BATCH_WINDOW_S = 1.0


class Kind(StrEnum):
    """What can be made to go wrong."""

    ANSWER_LOST = "answer_lost"
    ERROR = "error"
    THROTTLE = "throttle"
    SLOW = "slow"
    HANG = "hang"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a fault's name
    STATUS_FAILED = "status_failed"
    WEBHOOK_DUPLICATE = "webhook_duplicate"
    WEBHOOK_REORDER = "webhook_reorder"
    WEBHOOK_BATCH = "webhook_batch"
    WEBHOOK_BEFORE_ANSWER = "webhook_before_answer"
    WEBHOOK_HOLD = "webhook_hold"


Seconds = Annotated[float, Meta(ge=0, le=HANG_MAX_S)]


class Fault(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A script: what goes wrong, for whom (None: everybody) and how often (None: always).

    `keep` says whether a request is kept although it goes wrong; each kind has its own default.
    """

    kind: Kind
    account: str | None = None
    to: str | None = None
    count: Annotated[int, Meta(ge=1)] | None = None
    keep: bool | None = None
    code: int | None = None
    subcode: int | None = None
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None
    delay_s: Seconds | None = None


class Standing(Struct, kw_only=True):
    """A fault that was set, and how many times it happened."""

    id: int
    fault: Fault
    hits: int = 0

    def matches(self, account: str, to: str | None) -> bool:
        """Tell whether the fault still happens, and to these."""
        fault = self.fault
        return (
            (fault.count is None or self.hits < fault.count)
            and fault.account in (None, account)
            and (fault.to is None or fault.to == to)
        )


@dataclass(frozen=True, slots=True)
class Course:
    """The course of one request: kept or not, refused or not, answered when or never."""

    kept: bool = True
    refused: bool = False
    wait_s: float = 0.0
    answered: bool = True
    fault: Fault | None = None


NORMAL = Course()
COURSES = {
    Kind.ANSWER_LOST: Course(answered=False),
    Kind.ERROR: Course(kept=False, refused=True),
    Kind.THROTTLE: Course(kept=False, refused=True),
    Kind.SLOW: Course(wait_s=1.0),
    Kind.HANG: Course(wait_s=HANG_MAX_S, answered=False),
}

Plan = list[Timed]
"""Updates with the (loop) times at which they become due, in the order of the truth."""


def _duplicate(plan: Plan, standing: Standing, _now: float) -> Plan:
    delay_s = _delay(standing, DUPLICATE_DELAY_S)
    return plan + [timed._replace(due=timed.due + delay_s) for timed in plan]


def _reorder(plan: Plan, standing: Standing, _now: float) -> Plan:
    """Turn the order round; a single update is held back, for others to overtake."""
    if len(plan) == 1:
        return [plan[0]._replace(due=plan[0].due + _delay(standing, REORDER_DELAY_S))]
    dues = [timed.due for timed in reversed(plan)]
    return [timed._replace(due=due) for timed, due in zip(plan, dues, strict=True)]


def _batch(plan: Plan, standing: Standing, _now: float) -> Plan:
    """Let the updates of all plans that end in a window become due with it: one request."""
    window_s = max(_delay(standing, BATCH_WINDOW_S), 0.01)
    end = math.ceil(plan[-1].due / window_s) * window_s
    return [timed._replace(due=end) for timed in plan]


def _before_answer(plan: Plan, _standing: Standing, now: float) -> Plan:
    """Let the first update be due at once; the answer waits until its sending was attempted."""
    return [plan[0]._replace(due=now, attempted=asyncio.Event()), *plan[1:]]


def _hold(plan: Plan, standing: Standing, _now: float) -> Plan:
    return [timed._replace(held_by=standing.id) for timed in plan]


WEBHOOK_FAULTS: dict[Kind, Callable[[Plan, Standing, float], Plan]] = {
    Kind.WEBHOOK_DUPLICATE: _duplicate,
    Kind.WEBHOOK_REORDER: _reorder,
    Kind.WEBHOOK_BATCH: _batch,
    Kind.WEBHOOK_BEFORE_ANSWER: _before_answer,
    Kind.WEBHOOK_HOLD: _hold,
}


def _delay(standing: Standing, default_s: float) -> float:
    return default_s if standing.fault.delay_s is None else standing.fault.delay_s


class Faults:
    """The faults that are set now; the one set first happens first."""

    def __init__(self) -> None:
        self._standing: dict[int, Standing] = {}
        self._next_id = 1
        self._removed = asyncio.Event()

    def add(self, fault: Fault) -> Standing:
        """Set a fault."""
        standing = Standing(id=self._next_id, fault=fault)
        self._standing[standing.id] = standing
        self._next_id += 1
        return standing

    def all(self) -> list[Standing]:
        """Return every fault that was set and not removed, spent ones too."""
        return list(self._standing.values())

    def remove(self, fault_id: int | None = None) -> list[int]:
        """Remove one fault, or all; requests that hang are cut."""
        gone = [key for key in self._standing if fault_id in (None, key)]
        for key in gone:
            del self._standing[key]
        self._removed.set()
        self._removed = asyncio.Event()
        return gone

    def take(self, kinds: Sequence[Kind], account: str, to: str | None = None) -> Standing | None:
        """Let the first fitting fault of some kinds happen; None when all goes well."""
        for standing in self._standing.values():
            if standing.fault.kind in kinds and standing.matches(account, to):
                standing.hits += 1
                return standing
        return None

    def course(self, account: str, to: str) -> Course:
        """Decide the course of one message request."""
        standing = self.take(_COURSE_KINDS, account, to) if self._standing else None
        if standing is None:
            return NORMAL
        course = COURSES[standing.fault.kind]
        return replace(
            course,
            kept=course.kept if standing.fault.keep is None else standing.fault.keep,
            wait_s=_delay(standing, course.wait_s),
            fault=standing.fault,
        )

    def bend(self, plan: Plan, account: str, to: str, now: float) -> Plan:
        """Apply the webhook faults to the updates about one customer."""
        if self._standing:
            for kind, change in WEBHOOK_FAULTS.items():
                standing = self.take((kind,), account, to) if plan else None
                plan = change(plan, standing, now) if standing is not None else plan
        return plan

    async def wait(self, wait_s: float) -> None:
        """Return after a time, or as soon as a fault is removed."""
        try:
            async with asyncio.timeout(wait_s):
                await self._removed.wait()
        except TimeoutError:
            return


_COURSE_KINDS = tuple(COURSES)
