"""The channels there are: each folder here with a connector module."""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from services.connectors.base import Connector, ConnectorConfig, Http


class Factory(Protocol):
    """Makes the connector of a channel."""

    def __call__(self, config: Any, http: Http, /) -> Connector:
        """Return the connector for a configuration."""


class Channel(NamedTuple):
    """How a channel is configured and made."""

    config: type[ConnectorConfig]
    create: Factory


def names() -> list[str]:
    """Return the folders that hold a channel."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/connector.py"))


def load(name: str) -> Channel:
    """Return a channel by its folder's name; LookupError names those there are."""
    if name not in names():
        raise LookupError(f"There is no channel {name!r}; there are: {', '.join(names())}.")
    config = import_module(f"{__package__}.{name}.config")
    connector = import_module(f"{__package__}.{name}.connector")
    return Channel(config.Config, cast("Factory", connector.create))
