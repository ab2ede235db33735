"""What every product behind the Graph API does alike towards webhooks, for their simulators."""

import hashlib
import hmac


def signature(secret: str, raw: bytes) -> dict[str, str]:
    """Return the headers of a webhook: its signature is over exactly these bytes."""
    digest = hmac.digest(secret.encode(), raw, hashlib.sha256).hex()
    return {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}


def challenge(verify_token: str, text: str) -> dict[str, str]:
    """Return the query that verifies a webhook's address."""
    return {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": text}
