"""Wires a connector: intake -> ledger -> lanes -> provider, and webhooks back."""

import asyncio
from pathlib import Path

from services.connectors.accounts import Accounts
from services.connectors.base import ConnectorConfig
from services.connectors.evidence import Evidence
from services.connectors.http import ProviderHttp
from services.connectors.intake import Intake
from services.connectors.lanes import Lanes
from services.connectors.ledger import Ledger
from services.connectors.registry import Factory
from services.connectors.reporter import Reporter
from services.connectors.webhooks import Webhooks
from services.connectors.worker import Worker
from services.contracts.topics import DEAD_LETTERS, INBOUND_MESSAGES, STATUS_UPDATES, outbound
from services.runtime.app import App
from services.runtime.http.routes import routes_of
from services.runtime.kafka.consumer import Consumer
from services.runtime.kafka.producer import Producer
from services.runtime.postgres import Postgres
from services.runtime.unavailable import dependency_of

GIVE_UP_EVERY_S = 2.0


def build(app: App[ConnectorConfig], create: Factory) -> None:
    """Put one channel's connector together."""
    config = app.config
    http = ProviderHttp(
        config.provider_url,
        app.discovery,
        timeout_s=config.send_timeout_s,
        limit=config.sends_max,
    )
    app.on_stop("provider-http", http.close)
    connector = create(config, http)
    topic = outbound(connector.name)
    producer = Producer(app, (topic, STATUS_UPDATES, INBOUND_MESSAGES, DEAD_LETTERS))
    postgres = Postgres(app, "ledger", Path(__file__).parent / "migrations")
    ledger = Ledger(postgres, connector.name, config.instance_id)
    reporter = Reporter(ledger, producer, connector.name)
    accounts = Accounts(app, connector)
    worker = Worker(
        connector,
        ledger,
        reporter,
        producer,
        accounts,
        sends_max=config.sends_max,
        clock=asyncio.get_running_loop().time,
    )
    lanes = Lanes(ledger, worker, reporter)
    intake = Intake(connector, ledger, lanes)
    Consumer(
        app,
        producer,
        group=config.service_name,
        topic=topic,
        handle=intake.handle,
        assignments=lanes,
        after=(postgres.connected,),
    )
    app.on_stop("lanes", lanes.drain)
    app.spawn("lanes", lanes.run())
    app.spawn("reporter", reporter.run())
    app.spawn("give-up", _give_up(config, ledger, lanes, reporter))
    webhooks = Webhooks(connector, Evidence(postgres, connector.name), producer)
    app.http.router.add_routes(routes_of(webhooks))


async def _give_up(
    config: ConnectorConfig, ledger: Ledger, lanes: Lanes, reporter: Reporter
) -> None:
    """Fail, again and again, what stayed unknown beyond its deadline."""
    while True:
        await asyncio.sleep(GIVE_UP_EVERY_S)
        try:
            for report in await ledger.give_up(lanes.partitions, config.unknown_deadline_s):
                await reporter.put(report)
        except Exception as error:
            if dependency_of(error) is None:
                raise
