"""Wires the message service."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from services.contracts.records import DeadLetter
from services.contracts.topics import (
    CHAT_EVENTS,
    CONVERSATION_EVENTS,
    DEAD_LETTERS,
    INBOUND_MESSAGES,
    STATUS_UPDATES,
)
from services.message.acceptance import Acceptance
from services.message.channel_routes import ChannelRoutes
from services.message.config import MessageConfig
from services.message.consumer import StatusConsumer
from services.message.conversation_routes import ConversationRoutes
from services.message.history import History
from services.message.inbound import InboundConsumer
from services.message.letter_routes import LetterRoutes
from services.message.letters import LetterStore, of_record
from services.message.people import KnownPeople
from services.message.reading import Reading
from services.message.replay import Replay
from services.message.routes import MessageRoutes
from services.message.store import ConversationStore, Indexes, MessageStore
from services.message.sweeper import Sweeper
from services.runtime.app import App
from services.runtime.channels import Channels
from services.runtime.http.openapi import PartRoutes
from services.runtime.http.routes import routes_of
from services.runtime.kafka.consumer import Consumer, Received
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.rest import Rest
from services.runtime.mongo import Mongo

STATUS_REST = Rest(ratio=25.0, max_s=1.0)
"""The longer, the more statuses of one message are written at once, and told at once."""
STATUS_GROUP = "message"
INBOUND_GROUP = "message-inbound"
LETTERS_GROUP = "message-dead-letters"


def build(app: App[MessageConfig]) -> None:
    """Serve the API, apply statuses, store what customers write, sweep what is overdue."""
    mongo = Mongo(app)
    producer = Producer(app, [CHAT_EVENTS, CONVERSATION_EVENTS, DEAD_LETTERS])
    shared = serve(app, mongo, producer)
    Consumer(
        app,
        producer,
        group=STATUS_GROUP,
        topic=STATUS_UPDATES,
        handle=StatusConsumer(shared.messages, shared.letters, producer).handle,
        rest=STATUS_REST,
    )
    Consumer(
        app,
        producer,
        group=LETTERS_GROUP,
        topic=DEAD_LETTERS,
        handle=partial(_keep, shared.letters),
    )
    Consumer(
        app,
        producer,
        group=INBOUND_GROUP,
        topic=INBOUND_MESSAGES,
        handle=InboundConsumer(
            shared.messages, shared.conversations, shared.history, shared.people, producer
        ).handle,
    )


async def _keep(letters: LetterStore, batch: Sequence[Received]) -> None:
    """Store records that others could not read or route."""
    dead = [one.record for one in batch if isinstance(one.record, DeadLetter)]
    await letters.add([of_record(record) for record in dead])


class Shared(NamedTuple):
    """What the consumers share with the API."""

    messages: MessageStore
    conversations: ConversationStore
    history: History
    letters: LetterStore
    people: KnownPeople


def serve(app: App[MessageConfig], mongo: Mongo, producer: Producer) -> Shared:
    """Serve the API and sweep; return what the consumers share with it."""
    Indexes(app, mongo)
    messages, conversations = MessageStore(mongo), ConversationStore(mongo)
    history, letters = History(mongo, messages), LetterStore(mongo)
    app.on_stop("history", history.counted)
    people, channels = KnownPeople(app.siblings), Channels(app)
    config = app.config
    acceptance = Acceptance(
        messages, conversations, history, people, channels, producer, config.sweep_after_s
    )
    public = (
        MessageRoutes(acceptance, messages, conversations, Reading(messages, producer)),
        ConversationRoutes(conversations, history, people, channels),
        ChannelRoutes(channels),
        LetterRoutes(letters, Replay(letters, messages, producer)),
    )
    for routes in (*public, PartRoutes(*public)):
        app.http.router.add_routes(routes_of(routes))
    app.spawn("sweeper", Sweeper(messages, producer, config).run())
    return Shared(messages, conversations, history, letters, people)
