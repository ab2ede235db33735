"""What MongoDB is asked to guarantee: revisions, places, unique names, pages."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from services.contracts.channels import INTERNAL
from services.contracts.ids import new_id
from services.contracts.people import Kind, Person
from services.contracts.status import Status
from services.contracts.topics import CHAT_EVENTS
from services.message.conversations import Conversation, open_conversation
from services.message.messages import Direction, Message, Order, now
from services.message.statuses import fold, pending
from services.message.sweeper import Sweeper
from services.message.tests.conftest import CHANNEL, Bench
from services.message.tests.test_statuses import learned

pytestmark = pytest.mark.connected


def message(conversation_id: UUID, seq: int, **more: object) -> Message:
    """Return a message to one recipient."""
    at, recipient_id = now(), uuid4()
    plain = Message(
        id=new_id(),
        conversation_id=conversation_id,
        seq=seq,
        direction=Direction.OUTBOUND,
        sender_id=uuid4(),
        channel=CHANNEL,
        accepted_at=at,
        status=Status.PENDING,
        rev=1,
        content="hello",
        deliveries=(pending(recipient_id, CHANNEL, at),),
        sweep_at=at + timedelta(hours=1),
    )
    return replace(plain, **more)


def conversation(*people: UUID, account: str | None = None, key: str | None = None) -> Conversation:
    """Return a conversation among customers."""
    return open_conversation(
        new_id(),
        [Person(user_id=one, kind=Kind.CUSTOMER, name="") for one in people],
        CHANNEL,
        now(),
        account=account,
        contact_key=key,
    )


def advanced(one: Message, status: Status) -> Message:
    """Return a message of which more is known."""
    recipient = one.deliveries[0].recipient_id
    return fold(one, [learned(status, recipient=recipient)])


async def test_a_message_comes_back_as_it_was_stored(bench: Bench) -> None:
    """Nothing is lost between a struct and its document."""
    stored = message(uuid4(), 1, reply_to=uuid4(), account="main", body_hash="x")
    await bench.keep(stored)
    assert await bench.messages.find(stored.id) == stored


async def test_a_change_over_a_moved_revision_is_told(bench: Bench) -> None:
    """Whoever comes second learns that they must look again; the others are written."""
    conflicted, free = message(uuid4(), 1), message(uuid4(), 1)
    await bench.keep(conflicted)
    await bench.keep(free)
    sent, read = advanced(conflicted, Status.SENT), advanced(conflicted, Status.READ)
    assert await bench.messages.replace_deliveries([(conflicted, sent)])
    both = [(conflicted, read), (free, advanced(free, Status.SENT))]
    assert not await bench.messages.replace_deliveries(both)
    stored = await bench.messages.find_many([conflicted.id, free.id])
    assert stored[conflicted.id] == sent
    assert (stored[free.id].status, stored[free.id].rev) == (Status.SENT, 2)


async def test_concurrent_changes_never_hide_one_another(bench: Bench) -> None:
    """Of many writers from one revision exactly one gets through."""
    base = message(uuid4(), 1)
    await bench.keep(base)
    change = [(base, advanced(base, Status.SENT))]
    results = await asyncio.gather(*(bench.messages.replace_deliveries(change) for _ in range(8)))
    assert results.count(True) == 1


async def test_a_page_is_not_moved_by_what_arrives(bench: Bench) -> None:
    """Reading on from a place sees what is behind it, once."""
    talk = uuid4()
    for seq in range(1, 6):
        await bench.keep(message(talk, seq))
    first = await bench.messages.page(talk, Order.DESC, None, 2)
    await bench.keep(message(talk, 6))
    rest = await bench.messages.page(talk, Order.DESC, first[-1].seq, 10)
    assert [one.seq for one in [*first, *rest]] == [5, 4, 3, 2, 1]
    onward = await bench.messages.page(talk, Order.ASC, 4, 10)
    assert [one.seq for one in onward] == [5, 6]


async def test_an_inbound_message_is_read_once(bench: Bench) -> None:
    """Reading again changes nothing; what we sent cannot be read this way."""
    inbound = message(uuid4(), 1, direction=Direction.INBOUND, status=Status.DELIVERED)
    outbound = message(uuid4(), 1, status=Status.DELIVERED)
    await bench.keep(inbound)
    await bench.keep(outbound)
    for _ in range(2):
        read = await bench.messages.mark_read(inbound.id, now())
        assert read is not None
        assert (read.status, read.rev) == (Status.READ, 2)
    assert await bench.messages.mark_read(outbound.id, now()) == outbound
    assert await bench.messages.mark_read(uuid4(), now()) is None


async def test_conversations_are_found_together(bench: Bench) -> None:
    """Each as often as and where it was asked for, and nothing where there is none."""
    one, two = conversation(uuid4()), conversation(uuid4())
    await bench.conversations.insert(one)
    await bench.conversations.insert(two)
    found = await bench.conversations.find_many([two.id, uuid4(), one.id, two.id])
    assert found == [two, None, one, two]


async def test_a_customers_last_conversation_is_found(bench: Bench) -> None:
    """Among those on the channel and account, two people before a group, the latest first."""
    anna = uuid4()
    assert await bench.conversations.find_contact(anna, CHANNEL, "main") is None
    group = conversation(anna, uuid4(), uuid4())
    elsewhere = conversation(anna, account="other")
    await bench.conversations.insert(group)
    await bench.conversations.insert(elsewhere)
    assert await bench.conversations.find_contact(anna, CHANNEL, "main") == group
    old, new = conversation(anna, uuid4()), conversation(anna, account="main")
    await bench.conversations.insert(old)
    await bench.conversations.insert(new)
    later = message(old.id, 0, accepted_at=now() + timedelta(seconds=1))
    assert await bench.history.append(later) is not None
    await bench.history.counted()
    found = await bench.conversations.find_contact(anna, CHANNEL, "main")
    assert found is not None
    assert found.id == old.id


async def test_a_customer_is_one_person_on_all_channels(bench: Bench) -> None:
    """Who talks nowhere on a channel is found on another, unless through another account."""
    anna = uuid4()
    talk = conversation(anna, uuid4(), account="main")
    internal = replace(conversation(anna, uuid4()), primary_channel=INTERNAL)
    for one in (talk, internal):
        await bench.conversations.insert(one)
    assert await bench.conversations.find_contact(anna, "OTHER", "one") == talk
    for account in ("one", "two"):
        await bench.conversations.learn_account(talk.id, "OTHER", account)
    found = await bench.conversations.find_contact(anna, "OTHER", "one")
    assert found is not None
    assert (found.account_on("OTHER"), found.version) == ("one", talk.version + 1)
    assert await bench.conversations.find_contact(anna, "OTHER", "two") is None


async def test_a_race_opens_one_conversation(bench: Bench) -> None:
    """Everybody who opens a conversation for the same customer gets the same one."""
    anna, key = uuid4(), uuid4().hex
    opened = await asyncio.gather(
        *(bench.conversations.open_contact(conversation(anna, key=key)) for _ in range(8))
    )
    assert len({one.id for one in opened if one}) == 1


async def test_what_stays_pending_is_published_again_and_then_left_alone(bench: Bench) -> None:
    """The sweeper takes the overdue, the oldest first, and each once in a while."""
    due = now() - timedelta(days=1)
    old = [message(uuid4(), 1, sweep_at=due + timedelta(seconds=n)) for n in (1, 0)]
    done = message(uuid4(), 1, sweep_at=due, status=Status.SENT)
    young = message(uuid4(), 1)
    for one in (*old, done, young):
        await bench.keep(one)
    sweeper = Sweeper(bench.messages, bench.topics, bench.app.config)
    bench.topics.published.clear()
    assert [await sweeper.sweep() for _ in range(2)] == [2, 0]
    swept = [record.message_id for record in bench.topics.on(CHAT_EVENTS)]
    assert swept == [old[1].id, old[0].id]
