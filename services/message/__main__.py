"""Runs the message service."""

from services.message.app import build
from services.message.config import MessageConfig
from services.runtime.app import run

if __name__ == "__main__":
    run(MessageConfig, build)
