"""The wire: every record as it stands on Kafka is kept as a snapshot."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from services.contracts import records
from services.contracts.records import AnyRecord, ChannelName, Poison, Reason, decode, encode
from services.contracts.status import Status

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
A, B, C = (UUID(int=n) for n in (1, 2, 3))

EXAMPLES: list[AnyRecord] = [
    records.MessageAccepted(
        message_id=A,
        conversation_id=B,
        sender_id=C,
        content="Olá 👋",
        deliveries=(records.PlannedDelivery(recipient_id=C, channel="CHANNEL"),),
        accepted_at=AT,
    ),
    records.DeliveryRequested(
        message_id=A,
        conversation_id=B,
        recipient_id=C,
        channel="CHANNEL",
        address="address",
        content="Olá 👋",
        accepted_at=AT,
    ),
    records.StatusChanged(
        message_id=A,
        conversation_id=B,
        recipient_id=C,
        channel="CHANNEL",
        status=Status.FAILED,
        at=AT,
        observed_at=AT,
        reason=Reason("code", "A sentence."),
        attempts=(records.Attempt(AT, "code", "A sentence."),),
    ),
    records.MessageReceived(
        channel="CHANNEL",
        account="main",
        account_scoped=False,
        address="address",
        provider_message_id="id",
        provider_at=AT,
        received_at=AT,
        content="Olá 👋",
    ),
    records.ConversationChanged(
        conversation_id=B,
        message_id=A,
        seq=1,
        rev=2,
        direction="OUTBOUND",
        status=Status.SENT,
        at=AT,
    ),
    records.DeadLetter(
        topic="topic",
        partition=1,
        offset=2,
        key=b"key",
        value=b"\xff",
        reason=Reason("code", "A sentence."),
        at=AT,
    ),
]


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda r: type(r).__name__)
def test_the_wire_does_not_drift(record: AnyRecord) -> None:
    """A record is written as its snapshot says, and the snapshot is read back as the record."""
    snapshot = (SNAPSHOTS / f"{type(record).__name__}.json").read_bytes()
    assert msgspec.json.format(encode(record)) == snapshot.strip()
    assert decode(snapshot) == record


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"type":"Nothing"}', b"\xff", b'{"type":"DeadLetter"}'],
)
def test_poison_is_recognised(value: bytes) -> None:
    """What is no record of ours is poison and nothing worse."""
    with pytest.raises(Poison):
        decode(value)


def test_an_unknown_version_is_poison() -> None:
    """A record of a later version is not half understood."""
    later = msgspec.structs.replace(EXAMPLES[0], v=2)
    with pytest.raises(Poison, match="version 2"):
        decode(encode(later))


@pytest.mark.parametrize("name", ["C", "CHANNEL", "CHANNEL_2", "C" * 32])
def test_the_name_of_a_channel_is_taken(name: str) -> None:
    """Upper case, digits and underscores, after a letter."""
    assert msgspec.convert(name, ChannelName) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "channel",
        "2C",
        "_C",
        "C-2",
        "CÉ",
        "C" * 33,
        "CHANNEL\n",
        "\nCHANNEL",
        "A\nB",
        "CHANNEL\r\n",
    ],
)
def test_what_is_no_name_of_a_channel_is_refused(name: str) -> None:
    """It names topics, groups and jobs: a line that follows is no part of it, and not dropped."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, ChannelName)
    with pytest.raises(Poison):
        decode(encode(msgspec.structs.replace(EXAMPLES[1], channel=name)))
