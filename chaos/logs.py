"""What lines of the broker's and the workers' logs say about consumer groups."""

import re
from datetime import datetime

import msgspec
from msgspec import Struct

from chaos.observations import Interval, Kind

MILLISECOND = 0.001


class Told(Struct, frozen=True, kw_only=True):
    """What one line says."""

    kind: Kind
    when: Interval
    group: str | None = None
    member: str | None = None
    instance: str | None = None
    generation: int | None = None
    partitions: tuple[int, ...] = ()


_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[.,](\d{3})")
_BROKER = (
    (
        Kind.REBALANCING,
        re.compile(
            r"Preparing to rebalance group (?P<group>\S+) in state .* "
            r"with old generation (?P<generation>\d+)"
        ),
    ),
    (
        Kind.ASSIGNED,
        re.compile(
            r"Assignment received from leader \S+ for group (?P<group>\S+) "
            r"for generation (?P<generation>\d+)"
        ),
    ),
    (
        Kind.MEMBER_LEFT,
        re.compile(r"Member (?P<member>\S+) in group (?P<group>\S+) has failed, removing it"),
    ),
    (
        Kind.MEMBER_LEFT,
        re.compile(
            r"\[Group (?P<group>\S+)\] Member (?P<member>\S+) has left group "
            r"through explicit `LeaveGroup`"
        ),
    ),
)
_WORKER = {
    "partitions_revoked": Kind.REVOKED,
    "partitions_assigned": Kind.ASSIGNED,
    "member_evicted": Kind.MEMBER_LEFT,
    "first_processed": Kind.PROCESSED,
}


class _Line(Struct):
    message: str
    timestamp: datetime
    instance: str = ""
    group: str | None = None
    member_id: str | None = None
    peer: str | None = None
    generation: int | None = None
    partition: int | None = None
    partitions: tuple[int, ...] = ()


_decode_line = msgspec.json.Decoder(_Line).decode


def broker(line: str) -> Told | None:
    """Read a line of the broker's log, whose times are cut to milliseconds of local time."""
    at = _TIME.search(line)
    if at is None:
        return None
    for kind, pattern in _BROKER:
        if found := pattern.search(line):
            said = found.groupdict()
            time = datetime.strptime(at[1], "%Y-%m-%d %H:%M:%S").timestamp()  # noqa: DTZ007 - local
            time += int(at[2]) * MILLISECOND
            return Told(
                kind=kind,
                when=Interval(time, time + MILLISECOND),
                group=said["group"],
                member=said.get("member"),
                generation=int(said["generation"]) if "generation" in said else None,
            )
    return None


def worker(line: str | bytes, group: str) -> Told | None:
    """Read a line of a worker's log; `group` is meant where the line names none."""
    try:
        said = _decode_line(line)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    kind = _WORKER.get(said.message)
    if kind is None:
        return None
    at = said.timestamp.timestamp()
    partitions = said.partitions if said.partition is None else (said.partition,)
    return Told(
        kind=kind,
        when=Interval(at - MILLISECOND, at),
        group=said.group or group,
        member=said.member_id,
        instance=said.peer if kind is Kind.MEMBER_LEFT else said.instance,
        generation=said.generation,
        partitions=partitions,
    )
