"""What the user service is told."""

from typing import Annotated

from msgspec import Meta

from services.runtime.config import Config


class UserConfig(Config, frozen=True, kw_only=True):
    """The installation's first key, by the SHA-256 of it in hex; without one there is no key."""

    bootstrap_api_key_sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")] | None = None
