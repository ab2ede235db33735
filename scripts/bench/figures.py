"""The figures of a benchmark, as they are measured, kept and compared."""

from collections.abc import Sequence

from msgspec import Struct

from chaos.statistics import quantile

HTTP, KAFKA, MONGODB, POSTGRES = "bare POST", "Kafka produce", "MongoDB insert", "PostgreSQL insert"
"""The bare parts."""
GENERATOR, BENCH = "k6", "bench"
"""Processes that put the load on, and so are no part of the platform."""


class Latency(Struct, frozen=True, kw_only=True):
    """How long something took, of all that were measured."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Part(Struct, frozen=True, kw_only=True):
    """A bare part alone: its full speed in batches, and what one operation after another takes."""

    per_s: float
    alone: Latency


class Load(Struct, frozen=True, kw_only=True):
    """What the load generator did and was answered.

    `dropped` are requests that never began because every user was busy, `late_p99_ms` is how late
    others began, `users_wait_ms` how long answers must take for all users to be waiting at once.
    """

    offered_per_s: float
    seconds: float
    achieved_per_s: float
    acknowledged: int
    errors: dict[str, int]
    dropped: int
    late_p99_ms: float
    users_wait_ms: float
    acceptance: Latency


class Delivery(Struct, frozen=True, kw_only=True):
    """What became of the acknowledged messages, by the providers' receipts.

    `backlog` is what was not delivered when the last answer came, `backlog_records` what Kafka
    still held for its consumers; `emptied_after_s` is None when the wait for both was given up.
    """

    latency: Latency | None
    by_channel: dict[str, Latency]
    backlog: int
    backlog_records: int
    emptied_after_s: float | None
    lost: int
    duplicated: int
    reordered: int


class Use(Struct, frozen=True, kw_only=True):
    """What the processes of one name used, in percent of one core, and held at its end."""

    name: str
    processes: int
    cpu_percent: float
    busiest_percent: float
    memory_mb: float


class Machine(Struct, frozen=True, kw_only=True):
    """What a machine of so many cores and so much memory did meanwhile, all processes together.

    `stolen_percent` is what a virtual machine's host took from it, of one core.
    """

    cores: int
    cpu_percent: float
    uses: list[Use]
    memory_mb: float = 0.0
    stolen_percent: float = 0.0

    @property
    def platform(self) -> list[Use]:
        """What the platform's own processes used."""
        return [use for use in self.uses if use.name not in (GENERATOR, BENCH)]

    @property
    def platform_percent(self) -> float:
        """The CPU of all of those, in percent of one core."""
        return sum(use.cpu_percent for use in self.platform)

    @property
    def others_percent(self) -> float:
        """The CPU of processes that are no part of this at all."""
        return max(0.0, self.cpu_percent - sum(use.cpu_percent for use in self.uses))

    @property
    def busy_share(self) -> float:
        """How much was used of what the host left of all cores."""
        return self.cpu_percent / (100 * self.cores - self.stolen_percent)

    def of(self, name: str) -> float:
        """Return the CPU that the processes of a name used, in percent of one core."""
        return sum(use.cpu_percent for use in self.uses if use.name == name)


class Trial(Struct, frozen=True, kw_only=True):
    """One load on the platform."""

    load: Load
    delivery: Delivery
    machine: Machine


class Rung(Struct, frozen=True, kw_only=True):
    """One rate of the search for the ceiling, and what did not hold there."""

    trial: Trial
    broken: list[str]
    stopped_by: str


class Conditions(Struct, frozen=True, kw_only=True):
    """What the platform ran with; `real_quotas` are the providers' own, which were off."""

    instance: str
    channels: list[str]
    links: str
    quota_profile: str
    real_quotas: dict[str, str]
    mongodb: str
    release: str
    conversations: int


class Report(Struct, frozen=True, kw_only=True):
    """A whole benchmark; `warm_up` is what the same load did before any of it counted."""

    at: str
    conditions: Conditions
    warm_up: Trial | None = None
    before: dict[str, Part]
    trial: Trial
    after: dict[str, Part]
    rungs: list[Rung] = []


def latency_of(values_ms: Sequence[float]) -> Latency:
    """Describe durations; there must be at least one."""
    return Latency(
        p50_ms=quantile(values_ms, 0.50),
        p95_ms=quantile(values_ms, 0.95),
        p99_ms=quantile(values_ms, 0.99),
        max_ms=max(values_ms),
    )
