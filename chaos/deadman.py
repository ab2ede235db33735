"""The dead man: heals when the runner's pipe closes or stays silent, whatever befell the runner."""

import asyncio
import os
import select
import sys
from pathlib import Path

import aiohttp

from chaos.safety import UndoLog, heal


def wait(pipe: int, lease_s: float) -> bool:
    """Return True when the runner took its leave, False when it died or fell silent."""
    while select.select([pipe], [], [], lease_s)[0]:
        signs = os.read(pipe, 64)
        if not signs:
            return False
        if b"q" in signs:
            return True
    return False


async def _heal(path: Path) -> int:
    async with aiohttp.ClientSession() as session:
        return await heal(UndoLog(path), session)


if __name__ == "__main__":
    if not wait(sys.stdin.fileno(), float(sys.argv[2])):
        asyncio.run(_heal(Path(sys.argv[1])))
