"""Tasks that work for several who may wait for them, or for nobody."""

import asyncio
from typing import Any


def note_failure(task: asyncio.Task[Any]) -> None:
    """Take note of a failure that perhaps nobody waited for: who needs the work does it again.

    To be called when the task is done; asyncio would complain of it otherwise.
    """
    if not task.cancelled():
        task.exception()
