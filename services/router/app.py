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

REST = Rest(waves=(Wave(12, 0.1), Wave(33, 0.4)))
"""In waves batches are large everywhere behind the routers: connectors and ledger have less to do
for each delivery. The long ones begin where the cores of a small machine are full."""


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
