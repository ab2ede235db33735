"""Wires a router: chat-events -> addresses -> outbound topics."""

from services.contracts.topics import CHAT_EVENTS, DEAD_LETTERS, STATUS_UPDATES
from services.router.addresses import Addresses
from services.router.config import RouterConfig
from services.router.consumer import Router
from services.runtime.app import App
from services.runtime.channels import Channels
from services.runtime.kafka.consumer import Consumer
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.rest import Rest, Wave

REST = Rest(waves=(Wave(40, 0.1), Wave(100, 0.4)))
"""By records a second on each router. In waves batches are large everywhere behind it, and the
connectors and the ledger have less to do for each delivery."""


def build(app: App[RouterConfig]) -> None:
    """Put the router together."""
    producer = Producer(app, (CHAT_EVENTS, STATUS_UPDATES, DEAD_LETTERS))
    channels = Channels(app)
    router = Router(producer, Addresses(app.siblings, app.config.address_cache_s), channels)
    Consumer(
        app,
        producer,
        group="router",
        topic=CHAT_EVENTS,
        handle=router.handle,
        after=(channels.known,),
        rest=REST,
    )
