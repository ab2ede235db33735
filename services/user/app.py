"""Wires the user service."""

import asyncio
from contextlib import suppress
from pathlib import Path

from services.runtime.app import App
from services.runtime.http.openapi import PartRoutes
from services.runtime.http.routes import routes_of
from services.runtime.postgres import RETRY_S, Postgres
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of
from services.user.config import UserConfig
from services.user.routes import ApiKeyRoutes, InternalRoutes, UserRoutes
from services.user.scopes import ADMIN
from services.user.store import Store, Taken

_log = log(__name__)


def build(app: App[UserConfig]) -> None:
    """Put the user service together."""
    postgres = Postgres(app, "users", Path(__file__).parent / "migrations")
    store = Store(postgres)
    public = (UserRoutes(store), ApiKeyRoutes(store))
    for routes in (*public, InternalRoutes(store), PartRoutes(*public)):
        app.http.router.add_routes(routes_of(routes))
    app.spawn("bootstrap", _bootstrap(app.config, postgres, store))


async def _bootstrap(config: UserConfig, postgres: Postgres, store: Store) -> None:
    """Store the installation's first API key, once; once revoked it stays so."""
    digest = config.bootstrap_api_key_sha256
    if digest is None:
        return
    await postgres.connected.wait()
    while True:
        try:
            with suppress(Taken):
                await store.add_api_key("installation", "bootstrap", digest, [ADMIN])
        except Exception as error:
            dependency = dependency_of(error)
            if dependency is None:
                raise
            _log.warning("bootstrap_waits", dependency=dependency)
            await asyncio.sleep(RETRY_S)
        else:
            return
