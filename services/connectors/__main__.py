"""Runs the connector of the channel that CHANNEL names."""

import os
from functools import partial

from services.connectors.app import build
from services.connectors.registry import load
from services.runtime.app import run

if __name__ == "__main__":
    channel = load(os.environ.get("CHANNEL", ""))
    run(channel.config, partial(build, create=channel.create))
