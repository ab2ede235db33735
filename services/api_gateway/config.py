"""What the API gateway is told."""

from typing import Annotated

from msgspec import Meta

from services.runtime.config import Config, Port

Rate = Annotated[float, Meta(gt=0)]
Burst = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, le=1)]


class GatewayConfig(Config, frozen=True, kw_only=True):
    """What is the gateway's own."""

    public_port: Port | None = None
    """A port that all instances on one machine listen on together, beside each one's own."""
    rate_limit_per_s: Rate = 1000.0
    rate_limit_burst: Burst = 2000
    rate_limit_local_share: Share = 0.25
    """The part of an API key's limit that one gateway allows while Redis is away."""
