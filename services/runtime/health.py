"""Liveness and readiness: ready when every dependency answers, and not on the way out."""

import asyncio
from collections.abc import Awaitable, Callable

Probe = Callable[[], Awaitable[None]]
PROBE_TIMEOUT_S = 0.8


class Health:
    """Knows how to ask each dependency of a process whether it answers."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}
        self.stopping = False

    def add(self, dependency: str, probe: Probe) -> None:
        """Make readiness depend on a probe that returns when the dependency answers."""
        self._probes[dependency] = probe

    async def down(self) -> dict[str, str]:
        """Return the dependencies that do not answer, each with its reason."""
        names = list(self._probes)
        reasons = await asyncio.gather(*(self._ask(self._probes[name]) for name in names))
        found = {name: why for name, why in zip(names, reasons, strict=True) if why is not None}
        if self.stopping:
            found["process"] = "stopping"
        return found

    async def _ask(self, probe: Probe) -> str | None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await probe()
        except TimeoutError:
            return f"no answer within {PROBE_TIMEOUT_S} s"
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it is not ready
            return f"{type(error).__name__}: {error}"[:200]
        return None
