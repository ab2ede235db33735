"""Lets simulators look for what is due more often than where they serve a whole platform."""

import pytest

from services.connectors import simulator_webhooks


@pytest.fixture(autouse=True)
def impatient_simulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send webhooks and repeat challenges soon; what comes of them is the same."""
    monkeypatch.setattr(simulator_webhooks, "FLUSH_INTERVAL_S", 0.02)
    monkeypatch.setattr(simulator_webhooks, "VERIFY_INTERVAL_S", 0.01)
