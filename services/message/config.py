"""What the message service is told."""

from services.runtime.config import Config


class MessageConfig(Config, frozen=True, kw_only=True):
    """When a message that stays PENDING is published again."""

    sweep_interval_s: float = 5.0
    sweep_after_s: float = 30.0
    sweep_again_s: float = 600.0
