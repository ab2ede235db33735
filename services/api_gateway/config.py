"""What the API gateway is told."""

from services.runtime.config import Config, Port


class GatewayConfig(Config, frozen=True, kw_only=True):
    """A port that all instances on one machine listen on together, beside each one's own."""

    public_port: Port | None = None
