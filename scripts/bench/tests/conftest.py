"""A report that meets every target; tests spoil what they are about."""

from typing import Any

import pytest
from msgspec.structs import replace

from scripts.bench.figures import (
    HTTP,
    KAFKA,
    MONGODB,
    POSTGRES,
    Conditions,
    Delivery,
    Latency,
    Load,
    Machine,
    Part,
    Report,
    Trial,
    Use,
)


def latency(p50_ms: float, p95_ms: float, p99_ms: float, max_ms: float) -> Latency:
    """Return a latency."""
    return Latency(p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p99_ms, max_ms=max_ms)


def use(name: str, cpu_percent: float, busiest_percent: float) -> Use:
    """Return what two processes of a job used."""
    return Use(
        name=name,
        processes=2,
        cpu_percent=cpu_percent,
        busiest_percent=busiest_percent,
        memory_mb=50.0,
    )


@pytest.fixture
def good() -> Report:
    """Return a report of a platform that does well on a calm machine."""
    parts = {
        name: Part(per_s=per_s, alone=latency(0.5, 1.0, 2.0, 4.0))
        for name, per_s in {HTTP: 5e3, KAFKA: 4e4, MONGODB: 2e4, POSTGRES: 1e5}.items()
    }
    load = Load(
        offered_per_s=400,
        seconds=60,
        achieved_per_s=400.0,
        acknowledged=24_000,
        errors={},
        dropped=0,
        late_p99_ms=2.0,
        users_wait_ms=1000.0,
        acceptance=latency(4.5, 12.0, 30.0, 80.0),
    )
    delivery = Delivery(
        latency=latency(15.0, 60.0, 90.0, 120.0),
        by_channel={"PAGER": latency(15.0, 60.0, 90.0, 120.0)},
        backlog=3,
        backlog_records=7,
        emptied_after_s=0.8,
        lost=0,
        duplicated=0,
        reordered=0,
    )
    machine = Machine(
        cores=2,
        cpu_percent=120.0,
        memory_mb=8000.0,
        uses=[use("message", 60.0, 31.0), use("kafka", 30.0, 30.0), use("k6", 25.0, 25.0)],
    )
    conditions = Conditions(
        instance="dev",
        channels=["PAGER"],
        links="direct",
        quota_profile="high-quota",
        real_quotas={"PAGER": "1/s"},
        mongodb="mongod",
        release="abc",
        conversations=10,
    )
    trial = Trial(load=load, delivery=delivery, machine=machine)
    return Report(
        at="2026-01-01T00-00-00Z",
        conditions=conditions,
        warm_up=trial,
        before=parts,
        trial=trial,
        after=parts,
    )


def with_load(report: Report, **changes: Any) -> Report:
    """Return the report with another load."""
    trial = report.trial
    return replace(report, trial=replace(trial, load=replace(trial.load, **changes)))


def with_delivery(report: Report, **changes: Any) -> Report:
    """Return the report with other deliveries."""
    trial = report.trial
    return replace(report, trial=replace(trial, delivery=replace(trial.delivery, **changes)))


def with_machine(report: Report, **changes: Any) -> Report:
    """Return the report with another use of the machine."""
    trial = report.trial
    return replace(report, trial=replace(trial, machine=replace(trial.machine, **changes)))
