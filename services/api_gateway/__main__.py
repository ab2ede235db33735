"""Runs the API gateway."""

from services.api_gateway.app import build
from services.api_gateway.config import GatewayConfig
from services.runtime.app import run

if __name__ == "__main__":
    run(GatewayConfig, build)
