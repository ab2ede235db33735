"""Wires the API gateway."""

import asyncio

from services.api_gateway.config import GatewayConfig
from services.api_gateway.docs import Docs
from services.api_gateway.keys import Keys
from services.api_gateway.rate_limit import (
    Limit,
    RateLimits,
    limited,
    shared_bucket,
)
from services.api_gateway.routes import GatewayRoutes
from services.contracts.people import ApiKeyGrant, ApiKeyQuery
from services.runtime.app import App
from services.runtime.channels import Channels
from services.runtime.redis import Redis


def build(app: App[GatewayConfig]) -> None:
    """Put the gateway together."""

    async def ask(digest: str) -> ApiKeyGrant | None:
        query = ApiKeyQuery(digest)
        return await app.siblings.ask("user", "/internal/api-keys/verify", query, ApiKeyGrant)

    clock = asyncio.get_running_loop().time
    routes = GatewayRoutes(app.siblings, Keys(ask, clock), Channels(app))
    limit = Limit(app.config.rate_limit_per_s, app.config.rate_limit_burst)
    bucket = shared_bucket(Redis(app), limit)
    limits = RateLimits(bucket, limit, app.config.rate_limit_local_share, clock)
    app.guard = limited(routes.guard, limits)
    app.http.router.add_routes(Docs(app.siblings, clock).routes())
    app.http.router.add_route("*", "/api/v1/{resource}", routes.api)
    app.http.router.add_route("*", "/api/v1/{resource}/{rest:.*}", routes.api)
    for method in ("GET", "POST"):
        app.http.router.add_route(method, "/webhooks/{channel}/{account}", routes.webhook)
    if app.config.public_port is not None:
        app.public_ports.append(app.config.public_port)
