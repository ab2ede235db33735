"""Lines of the broker's and the workers' logs are understood, others are passed over."""

import json
from datetime import datetime

import pytest

from chaos import logs
from chaos.observations import Kind

AT = "2026-11-23 15:04:06.123"
COORDINATOR = "[group-coordinator] INFO x - [GroupCoordinator id=1 topic=__consumer_offsets]"


@pytest.mark.parametrize(
    ("text", "kind", "member", "generation"),
    [
        (
            (
                "Preparing to rebalance group router in state PreparingRebalance with old "
                "generation 7 (reason: explicit `LeaveGroup` request for (router-a) members.)."
            ),
            Kind.REBALANCING,
            None,
            7,
        ),
        (
            (
                "Assignment received from leader router-b-1 for group router for generation 8. "
                "The group has 2 members, 0 of which are static."
            ),
            Kind.ASSIGNED,
            None,
            8,
        ),
        (
            "Member router-a-77 in group router has failed, removing it from the group.",
            Kind.MEMBER_LEFT,
            "router-a-77",
            None,
        ),
        (
            (
                "[Group router] Member router-a-77 has left group through explicit `LeaveGroup` "
                "request; client reason: not provided"
            ),
            Kind.MEMBER_LEFT,
            "router-a-77",
            None,
        ),
    ],
)
def test_the_coordinator_is_understood(
    text: str, kind: Kind, member: str | None, generation: int | None
) -> None:
    """Each line tells its event, group, member, generation, and the millisecond it was in."""
    told = logs.broker(f"{AT} {COORDINATOR} {text}")
    assert told is not None
    assert (told.kind, told.group) == (kind, "router")
    assert (told.member, told.generation) == (member, generation)
    assert told.when.lo == pytest.approx(datetime.fromisoformat(AT).timestamp())
    assert told.when.hi == pytest.approx(told.when.lo + 0.001)


@pytest.mark.parametrize("line", ["", AT, f"{AT} INFO x - Stabilized", "Member a in group b has"])
def test_other_lines_of_the_broker_say_nothing(line: str) -> None:
    """What is no event of a group is passed over."""
    assert logs.broker(line) is None


@pytest.mark.parametrize(
    ("event", "more", "kind", "instance", "partitions"),
    [
        ("partitions_revoked", {"partitions": [1, 2]}, Kind.REVOKED, "me", (1, 2)),
        ("partitions_assigned", {"partitions": [3]}, Kind.ASSIGNED, "me", (3,)),
        ("first_processed", {"partition": 3, "offset": 9}, Kind.PROCESSED, "me", (3,)),
        ("member_evicted", {"peer": "dead", "member_id": "m"}, Kind.MEMBER_LEFT, "dead", ()),
    ],
)
def test_workers_are_understood(
    event: str, more: dict[str, object], kind: Kind, instance: str, partitions: tuple[int, ...]
) -> None:
    """A member tells of itself, and of the one that it has evicted."""
    line = {"message": event, "timestamp": "2026-11-23T15:04:06.123456Z", "instance": "me", **more}
    told = logs.worker(json.dumps(line), "router")
    assert told is not None
    assert (told.kind, told.instance, told.partitions) == (kind, instance, partitions)
    assert told.group == "router"


@pytest.mark.parametrize("line", ["Traceback", '{"message": "started", "timestamp": "x"}', "{}"])
def test_other_lines_of_a_worker_say_nothing(line: str) -> None:
    """What is no event of a group, or no event at all, is passed over."""
    assert logs.worker(line, "router") is None
