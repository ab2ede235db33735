"""Liveness and readiness: ready when every dependency answers, and not on the way out."""

import asyncio
from collections.abc import Awaitable, Callable

Probe = Callable[[], Awaitable[None]]
PROBE_TIMEOUT_S = 0.8
REMOTE_FRESH_S = 4.0
"""How long the answer of another process serves: who asks every second asks all of them."""


class Health:
    """Knows how to ask each dependency of a process whether it answers."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}
        self._fresh_s: dict[str, float] = {}
        self._answered_at: dict[str, float] = {}
        self.stopping = False

    def add(self, dependency: str, probe: Probe, *, fresh_s: float = 0.0) -> None:
        """Make readiness depend on a probe that returns when the dependency answers.

        Once it did, it is not asked again for `fresh_s`.
        """
        self._probes[dependency], self._fresh_s[dependency] = probe, fresh_s

    async def down(self) -> dict[str, str]:
        """Return the dependencies that do not answer, each with its reason."""
        names = list(self._probes)
        reasons = await asyncio.gather(*map(self._ask, names))
        found = {name: why for name, why in zip(names, reasons, strict=True) if why is not None}
        if self.stopping:
            found["process"] = "stopping"
        return found

    async def _ask(self, name: str) -> str | None:
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        if asked_at < self._answered_at.get(name, -1.0) + self._fresh_s[name]:
            return None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._probes[name]()
        except TimeoutError:
            return f"no answer within {PROBE_TIMEOUT_S} s"
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it is not ready
            return f"{type(error).__name__}: {error}"[:200]
        self._answered_at[name] = asked_at
        return None
