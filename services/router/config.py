"""What a router is told."""

from services.runtime.config import Config


class RouterConfig(Config, frozen=True, kw_only=True):
    """How long an address that was looked up serves without asking again."""

    address_cache_s: float = 5.0
