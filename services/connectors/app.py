"""Wires a connector: intake -> ledger -> lanes -> provider, and webhooks back."""

import asyncio
from pathlib import Path

from services.connectors.accounts import Accounts
from services.connectors.base import ConnectorConfig
from services.connectors.echoes import Echoes
from services.connectors.evidence import Evidence
from services.connectors.housekeeping import Housekeeping
from services.connectors.http import ProviderHttp
from services.connectors.intake import Intake
from services.connectors.lanes import Lanes
from services.connectors.ledger import Ledger
from services.connectors.outcomes import Outcomes
from services.connectors.registry import Factory
from services.connectors.reporter import Reporter
from services.connectors.results import Results
from services.connectors.sending import Sending
from services.connectors.webhooks import Webhooks
from services.connectors.worker import Worker
from services.contracts.topics import DEAD_LETTERS, INBOUND_MESSAGES, STATUS_UPDATES, outbound
from services.runtime.app import App
from services.runtime.http.routes import routes_of
from services.runtime.kafka.consumer import Consumer
from services.runtime.kafka.producer import Producer
from services.runtime.postgres import Postgres

REAL = "real"


def build(app: App[ConnectorConfig], create: Factory) -> None:
    """Put one channel's connector together."""
    config, clock = app.config, asyncio.get_running_loop().time
    http = ProviderHttp(config.provider_url, app.discovery, timeout_s=config.send_timeout_s)
    app.on_stop("provider-http", http.close)
    connector = create(config, http)
    topic = outbound(connector.name)
    producer = Producer(app, (topic, STATUS_UPDATES, INBOUND_MESSAGES, DEAD_LETTERS))
    postgres = Postgres(app, "ledger", Path(__file__).parent / "migrations")
    ledger = Ledger(postgres, connector.name, config.instance_id)
    outcomes = Outcomes(postgres, connector.name)
    evidence = Evidence(postgres, connector.name)
    echoes = Echoes(postgres, outcomes, connector.name)
    reporter = Reporter(outcomes, evidence, producer, connector.name)
    sending = Sending(
        connector,
        Accounts(app, connector),
        limited=config.quota_profile == REAL,
        sends_max=config.sends_max,
        clock=clock,
    )
    results = Results(outcomes, reporter, connector.name)
    lanes = Lanes(ledger, results, Worker(connector, ledger, results, sending, clock), clock)
    sending.owned = lambda: lanes.partitions
    Consumer(
        app,
        producer,
        group=config.service_name,
        topic=topic,
        handle=Intake(connector, ledger, lanes).handle,
        assignments=lanes,
        after=(postgres.connected,),
    )
    app.on_stop("lanes", lanes.drain)
    housekeeping = Housekeeping(config, outcomes, evidence, echoes, lanes, reporter, producer)
    for name, task in (
        ("lanes", lanes.run()),
        ("lanes-refill", lanes.refill()),
        ("reporter", reporter.run()),
        ("housekeeping", housekeeping.run()),
    ):
        app.spawn(name, task)
    app.http.router.add_routes(routes_of(Webhooks(connector, evidence, echoes, reporter, producer)))
