"""Wires the user service."""

from pathlib import Path

from services.runtime.app import App
from services.runtime.http.routes import routes_of
from services.runtime.postgres import Postgres
from services.user.config import UserConfig
from services.user.routes import ApiKeyRoutes, InternalRoutes, UserRoutes
from services.user.scopes import ADMIN
from services.user.store import Store


def build(app: App[UserConfig]) -> None:
    """Put the user service together."""
    postgres = Postgres(app, "users", Path(__file__).parent / "migrations")
    store = Store(postgres)
    for routes in (UserRoutes(store), ApiKeyRoutes(store), InternalRoutes(store)):
        app.http.router.add_routes(routes_of(routes))
    app.spawn("bootstrap", _bootstrap(app.config, postgres, store))


async def _bootstrap(config: UserConfig, postgres: Postgres, store: Store) -> None:
    """Store the installation's first API key, once."""
    await postgres.connected.wait()
    digest = config.bootstrap_api_key_sha256
    if digest is not None and await store.grant(digest) is None:
        await store.add_api_key("installation", "bootstrap", digest, [ADMIN])
