"""Wires the API gateway."""

import asyncio

from services.api_gateway.config import GatewayConfig
from services.api_gateway.keys import Keys
from services.api_gateway.routes import GatewayRoutes
from services.contracts.people import ApiKeyGrant, ApiKeyQuery
from services.runtime.app import App
from services.runtime.channels import Channels


def build(app: App[GatewayConfig]) -> None:
    """Put the gateway together."""

    async def ask(digest: str) -> ApiKeyGrant | None:
        query = ApiKeyQuery(digest)
        return await app.siblings.ask("user", "/internal/api-keys/verify", query, ApiKeyGrant)

    routes = GatewayRoutes(app.siblings, Keys(ask, asyncio.get_running_loop().time), Channels(app))
    app.guard = routes.guard
    app.http.router.add_route("*", "/api/v1/{resource}", routes.api)
    app.http.router.add_route("*", "/api/v1/{resource}/{rest:.*}", routes.api)
    app.http.router.add_route("*", "/webhooks/{channel}/{account}", routes.webhook)
    if app.config.public_port is not None:
        app.public_ports.append(app.config.public_port)
