"""Places in a history: unique, behind one another, counted, whoever takes part in giving them."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from services.message.conversations import Conversation
from services.message.history import HEAD_AGE_MAX_S, History
from services.message.messages import Message, Order
from services.message.tests.conftest import Bench
from services.message.tests.test_store import conversation, message

pytestmark = pytest.mark.connected


@pytest.fixture
async def talk(bench: Bench) -> Conversation:
    """A conversation in which nothing was said yet."""
    opened = conversation(uuid4(), uuid4())
    await bench.conversations.insert(opened)
    return opened


async def counted(bench: Bench, talk: Conversation) -> tuple[int, int]:
    """Return a conversation's last place and its number of messages."""
    await bench.history.counted()
    stored = await bench.conversations.find(talk.id)
    assert stored is not None
    return stored.seq, stored.message_count


async def history(bench: Bench, talk: Conversation) -> list[Message]:
    """Return what was said in a conversation."""
    return await bench.messages.page(talk.id, Order.ASC, None, 1000)


async def test_places_are_unique_and_without_gaps(bench: Bench, talk: Conversation) -> None:
    """Two instances that fill one conversation at once give every message a place of its own."""
    instances = [History(bench.mongo, bench.messages) for _ in range(2)]
    await asyncio.gather(
        *(instances[n % 2].append(message(talk.id, 0), talk.version) for n in range(60))
    )
    await asyncio.gather(*(instance.counted() for instance in instances))
    assert [one.seq for one in await history(bench, talk)] == list(range(1, 61))
    assert await counted(bench, talk) == (60, 60)


async def test_who_comes_later_stands_later(bench: Bench, talk: Conversation) -> None:
    """Once a message is stored, whatever follows at any instance is placed behind it."""
    instances = [History(bench.mongo, bench.messages) for _ in range(2)]
    sent = [message(talk.id, 0) for _ in range(10)]
    for number, one in enumerate(sent):
        await instances[number % 2].append(one, talk.version)
        await instances[number % 2].counted()
    assert [one.id for one in await history(bench, talk)] == [one.id for one in sent]


async def test_messages_stored_together_are_each_refused_alone(
    bench: Bench, talk: Conversation
) -> None:
    """A name that is taken concerns nobody else in the batch, and is counted once."""
    there = message(talk.id, 0, idempotency_key=f"k {talk.id}")
    first = await bench.history.append(there)
    assert first is not None
    new = [message(talk.id, 0) for _ in range(20)]
    same_id = replace(there, idempotency_key=None)
    same_key = message(talk.id, 0, idempotency_key=there.idempotency_key)
    attempts = [*new[:10], same_id, same_key, *new[10:]]
    results = await asyncio.gather(*map(bench.history.append, attempts))
    assert [one.message for one in results if one and not one.is_new] == [first.message] * 2
    assert {one.id for one in await history(bench, talk)} == {there.id, *(one.id for one in new)}
    assert (await counted(bench, talk))[1] == 21


async def test_one_id_at_two_instances_is_stored_once(bench: Bench, talk: Conversation) -> None:
    """Whoever comes second is shown the first, and nothing is counted twice."""
    instances = [History(bench.mongo, bench.messages) for _ in range(4)]
    one = message(talk.id, 0)
    results = await asyncio.gather(*(instance.append(one) for instance in instances))
    await asyncio.gather(*(instance.counted() for instance in instances))
    assert [result.is_new for result in results if result].count(True) == 1
    assert {result.message for result in results if result} == set(await history(bench, talk))
    assert await counted(bench, talk) == (1, 1)


async def test_an_id_of_another_conversation_is_shown(bench: Bench, talk: Conversation) -> None:
    """The message that has the id comes back, whatever was asked."""
    elsewhere = message(uuid4(), 7)
    await bench.keep(elsewhere)
    result = await bench.history.append(replace(elsewhere, conversation_id=talk.id))
    assert result is not None
    assert (result.message, result.is_new) == (elsewhere, False)
    assert await counted(bench, talk) == (0, 0)


async def test_a_place_that_was_never_counted_is_found(bench: Bench, talk: Conversation) -> None:
    """Who stored messages and died before counting them hinders nobody, and they are counted."""
    lost = [message(talk.id, seq) for seq in (1, 2)]
    await bench.keep(*lost)
    repeated = await bench.history.append(lost[1])
    assert repeated is not None
    assert not repeated.is_new
    assert await counted(bench, talk) == (2, 2)
    await bench.keep(message(talk.id, 3))
    new = await bench.history.append(message(talk.id, 0))
    assert new is not None
    assert (new.message.seq, new.is_new) == (4, True)
    assert await counted(bench, talk) == (4, 4)


async def test_all_conversations_of_another_instance_are_taken_over_at_once(
    bench: Bench, talk: Conversation
) -> None:
    """Whoever goes on in many conversations that others left uncounted stands behind in each."""
    talks = [replace(talk, id=uuid4(), contact_key=None) for _ in range(60)]
    for one in talks:
        await bench.conversations.insert(one)
        await bench.keep(message(one.id, 1), message(one.id, 2))
    results = await asyncio.gather(*(bench.history.append(message(one.id, 0)) for one in talks))
    assert [result.message.seq for result in results if result] == [3] * 60
    await bench.history.counted()
    for one in talks:
        assert await counted(bench, one) == (3, 3)


async def test_a_conversation_that_was_read_tells_where_its_history_ends(
    bench: Bench, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read again, and what is known to be behind it counts for more."""
    ours = History(bench.mongo, bench.messages)
    read: list[UUID] = []
    read_heads = ours._read_heads

    async def note(conversation_ids: Collection[UUID]) -> dict[UUID, Any]:
        read.extend(conversation_ids)
        return await read_heads(conversation_ids)

    monkeypatch.setattr(ours, "_read_heads", note)
    clock = asyncio.get_running_loop().time
    ours.learn(talk, clock())
    for seq in (1, 2):
        result = await ours.append(message(talk.id, 0), talk.version)
        assert result is not None
        assert result.message.seq == seq
        ours.learn(talk, clock())
    assert not read
    ours.learn(talk, clock() - HEAD_AGE_MAX_S - 1)
    assert await ours.append(message(talk.id, 0), talk.version) is not None
    assert read == [talk.id]
    await ours.counted()
    assert await counted(bench, talk) == (3, 3)


async def test_what_was_learned_of_a_history_gives_way_to_what_is_stored(
    bench: Bench, talk: Conversation
) -> None:
    """Others went on since the conversation was read, and somebody left."""
    ours, theirs = (History(bench.mongo, bench.messages) for _ in range(2))
    read_at = asyncio.get_running_loop().time()
    for _ in range(2):
        assert await theirs.append(message(talk.id, 0), talk.version) is not None
    ours.learn(talk, read_at)
    third = await ours.append(message(talk.id, 0), talk.version)
    assert third is not None
    assert third.message.seq == 3
    changed = await bench.conversations.remove_participant(talk.id, talk.participants[1].user_id)
    assert changed is not None
    await theirs.fence(talk.id)
    ours.learn(talk, read_at)
    assert await ours.append(message(talk.id, 0), talk.version) is None
    await ours.counted()
    assert await counted(bench, talk) == (4, 3)


async def test_no_place_is_given_on_old_knowledge(bench: Bench, talk: Conversation) -> None:
    """Once somebody left, a place is taken only by who knows; or whom it does not matter to."""
    changed = await bench.conversations.remove_participant(talk.id, talk.participants[1].user_id)
    assert changed is not None
    assert await bench.history.append(message(talk.id, 0), talk.version) is None
    assert await bench.history.append(message(uuid4(), 0), 0) is None
    for version in (changed.version, None):
        result = await bench.history.append(message(talk.id, 0), version)
        assert result is not None
        assert result.is_new
    assert await counted(bench, talk) == (2, 2)


async def test_a_remembered_end_gives_way_to_a_change(bench: Bench, talk: Conversation) -> None:
    """Whoever goes on from memory meets the fence of who changed the participants."""
    ours, theirs = (History(bench.mongo, bench.messages) for _ in range(2))
    for instance in (theirs, ours):
        assert await instance.append(message(talk.id, 0), talk.version) is not None
        await instance.counted()
    changed = await bench.conversations.remove_participant(talk.id, talk.participants[1].user_id)
    assert changed is not None
    await theirs.fence(talk.id)
    for instance in (ours, theirs):
        assert await instance.append(message(talk.id, 0), talk.version) is None
        result = await instance.append(message(talk.id, 0), changed.version)
        assert result is not None
        await instance.counted()
    assert [one.seq for one in await history(bench, talk)] == [1, 2, 4, 5]
    assert await counted(bench, talk) == (5, 4)


async def test_a_fence_stands_behind_what_was_never_counted(
    bench: Bench, talk: Conversation
) -> None:
    """It is the end of the history that is taken, and a fence is no message when all is counted."""
    await bench.keep(message(talk.id, 1))
    await bench.history.fence(talk.id)
    await bench.keep(message(talk.id, 3))
    new = await bench.history.append(message(talk.id, 0))
    assert new is not None
    assert new.message.seq == 4
    assert await counted(bench, talk) == (4, 3)
