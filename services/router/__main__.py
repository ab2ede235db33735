"""Runs the router."""

from services.router.app import build
from services.router.config import RouterConfig
from services.runtime.app import run

if __name__ == "__main__":
    run(RouterConfig, build)
