"""Webhooks: verified over their raw bytes, answered with 200 when all they say is durable."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Struct

from services.connectors.base import Connector, Echo, InboundMessage, StatusUpdate
from services.connectors.echoes import Echoes
from services.connectors.evidence import Evidence
from services.connectors.reporter import Reporter
from services.contracts.problems import Problem
from services.contracts.records import MessageReceived
from services.contracts.topics import INBOUND_MESSAGES, STATUS_UPDATES
from services.runtime.http.routes import endpoint
from services.runtime.http.server import read_body
from services.runtime.kafka.producer import Outgoing, Producer

WEBHOOK_SIZE_MAX_BYTES = 4 * 1024 * 1024


class AccountPath(Struct, frozen=True):
    """Which of our accounts a webhook is for."""

    account: Annotated[str, msgspec.Meta(max_length=64)]


class Webhooks:
    """What the provider calls, through the gateway."""

    def __init__(
        self,
        connector: Connector,
        evidence: Evidence,
        echoes: Echoes,
        reporter: Reporter,
        producer: Producer,
    ) -> None:
        self._connector = connector
        self._evidence = evidence
        self._echoes = echoes
        self._reporter = reporter
        self._producer = producer

    @endpoint("GET", "/webhooks/{account}")
    async def verify(self, path: AccountPath, request: web.Request) -> web.Response:
        """Answer the provider's verification of the webhook's address."""
        self._require(path.account)
        challenge = self._connector.challenge(path.account, request.query)
        if challenge is None:
            raise Problem("verification_refused")
        return web.Response(text=challenge)

    @endpoint("POST", "/webhooks/{account}")
    async def receive(self, path: AccountPath, request: web.Request) -> web.Response:
        """Take all updates of a webhook; 200 says that each of them is durable."""
        self._require(path.account)
        raw = await read_body(request, WEBHOOK_SIZE_MAX_BYTES)
        if not self._connector.verify(path.account, raw, request.headers, request.query):
            raise Problem("invalid_signature")
        try:
            updates = self._connector.parse_webhook(path.account, raw)
        except msgspec.DecodeError as error:
            raise Problem("invalid_json", "The signed body is not JSON of a webhook.") from error
        if updates is None:
            raise Problem("unknown_account", "The webhook is for another account.")
        echoes = [update for update in updates if isinstance(update, Echo)]
        statuses = [update for update in updates if isinstance(update, StatusUpdate)]
        inbound = [update for update in updates if isinstance(update, InboundMessage)]
        for settled in await self._echoes.place(path.account, echoes):
            await self._reporter.put(settled)
        proven = await self._evidence.place(path.account, statuses) if statuses else []
        outgoing = [Outgoing(STATUS_UPDATES, str(s.conversation_id), s) for s in proven]
        outgoing += await self._inbound(path.account, inbound)
        await self._producer.publish(outgoing)
        return web.Response()

    def _require(self, account: str) -> None:
        if account not in self._connector.accounts:
            raise Problem("unknown_account")

    async def _inbound(self, account: str, messages: list[InboundMessage]) -> list[Outgoing]:
        if not messages:
            return []
        replied = await self._evidence.name_inbound(account, messages)
        now = datetime.now(UTC)
        return [
            Outgoing(
                INBOUND_MESSAGES,
                f"{self._connector.name}:{account}:{message.address}",
                MessageReceived(
                    channel=self._connector.name,
                    account=account,
                    account_scoped=self._connector.account_scoped,
                    address=message.address,
                    provider_message_id=message.provider_id,
                    provider_at=message.at,
                    received_at=now,
                    content=message.content,
                    sender_name=message.sender_name,
                    reply_to=replied.get(message.reply_to_provider_id or ""),
                    raw=message.raw,
                ),
            )
            for message in messages
        ]
