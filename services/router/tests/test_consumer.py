"""What a router publishes and counts for a batch."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

from prometheus_client import REGISTRY

from services.contracts.people import Address, Kind, Person
from services.contracts.records import (
    DeliveryRequested,
    MessageAccepted,
    PlannedDelivery,
    StatusChanged,
)
from services.router.consumer import Router
from services.runtime.kafka.consumer import Received
from services.runtime.kafka.producer import Outgoing

CHANNEL = "ROUTED"


class Published(list[Outgoing]):
    """A producer that keeps what it is given."""

    async def publish(self, outgoing: list[Outgoing]) -> None:
        """Keep it."""
        self += outgoing


def router(published: Published, people: dict[UUID, Any]) -> Router:
    """Return a router that knows these people and one channel."""

    async def of(_recipients: object) -> dict[UUID, Any]:
        return people

    parts = SimpleNamespace(of=of, states={CHANNEL: object()})
    return Router(cast("Any", published), cast("Any", parts), cast("Any", parts))


def accepted(*deliveries: PlannedDelivery) -> Received:
    """Return a message that was accepted half a second ago."""
    record = MessageAccepted(
        message_id=uuid4(),
        conversation_id=uuid4(),
        sender_id=uuid4(),
        content="x",
        deliveries=deliveries,
        accepted_at=datetime.now(UTC) - timedelta(seconds=0.5),
    )
    return Received(record, "chat-events", 0, 0, None)


def counted(name: str, **labels: str) -> float:
    """Return what a metric has come to."""
    return REGISTRY.get_sample_value(f"chat4all_{name}", {"channel": CHANNEL, **labels}) or 0.0


async def test_every_delivery_is_counted_by_its_outcome() -> None:
    """Addressed or not; how long it took is told for first deliveries, not for replays."""
    known = uuid4()
    address = SimpleNamespace(address="1", account=None)
    person = cast("Person", SimpleNamespace(address_on=lambda _channel: address))
    published = Published()
    await router(published, {known: person}).handle(
        [
            accepted(
                PlannedDelivery(recipient_id=known, channel=CHANNEL),
                PlannedDelivery(recipient_id=uuid4(), channel=CHANNEL),
            ),
            accepted(PlannedDelivery(recipient_id=known, channel=CHANNEL, replay_no=1)),
        ]
    )
    kinds = [type(outgoing.record) for outgoing in published]
    assert kinds == [DeliveryRequested, StatusChanged, DeliveryRequested]
    assert counted("deliveries_routed_total", outcome="addressed") == 2
    assert counted("deliveries_routed_total", outcome="no_identity") == 1
    assert counted("delivery_stage_seconds_count", stage="routed") == 1
    assert 0.5 <= counted("delivery_stage_seconds_sum", stage="routed") < 60


async def test_each_delivery_goes_through_its_own_account() -> None:
    """Where an address belongs to an account it is that one, else the one that was planned."""
    free, bound = (
        Person(
            user_id=uuid4(),
            kind=Kind.CUSTOMER,
            name="x",
            addresses=(Address(channel=CHANNEL, address="1", account=account),),
        )
        for account in (None, "scoped")
    )
    planned = [(free, "main"), (free, None), (bound, "main")]
    published = Published()
    await router(published, {one.user_id: one for one in (free, bound)}).handle(
        [
            accepted(PlannedDelivery(recipient_id=one.user_id, channel=CHANNEL, account=account))
            for one, account in planned
        ]
    )
    records = [cast("DeliveryRequested", outgoing.record) for outgoing in published]
    assert [record.account for record in records] == ["main", None, "scoped"]
