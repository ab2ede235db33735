"""Runs the user service."""

from services.runtime.app import run
from services.user.app import build
from services.user.config import UserConfig

if __name__ == "__main__":
    run(UserConfig, build)
