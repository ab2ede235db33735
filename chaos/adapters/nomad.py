"""Nomad, as far as breaking things on purpose needs it."""

import random
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct


class NotAllowed(Exception):  # noqa: N818 - a refusal
    """A job that does not say it may be broken."""


class Victim(Struct, frozen=True, kw_only=True):
    """A running task that may be broken."""

    job: str
    allocation: str
    task: str


class Nomad:
    """An agent's HTTP API; touches only jobs whose meta says chaos = "allowed"."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/") + "/v1"
        self._session = session

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, self._url + path, json=body) as answer:
            answer.raise_for_status()
            text = await answer.read()
            return msgspec.json.decode(text) if text else None

    async def definition(self, job: str) -> dict[str, Any]:
        """Return a job as it is registered; raise NotAllowed when it may not be broken."""
        found: dict[str, Any] = await self._call("GET", f"/job/{job}")
        if (found.get("Meta") or {}).get("chaos") != "allowed":
            raise NotAllowed(f'{job} does not allow chaos: its meta has no chaos = "allowed".')
        return found

    async def victims(self, job: str) -> list[Victim]:
        """Return the running tasks of a job that may be broken, in random order."""
        await self.definition(job)
        found = [
            Victim(job=job, allocation=allocation["ID"], task=task)
            for allocation in await self._call("GET", f"/job/{job}/allocations")
            for task, state in (allocation["TaskStates"] or {}).items()
            if allocation["ClientStatus"] == "running" and state["State"] == "running"
        ]
        return random.sample(found, len(found))

    async def signal(self, victim: Victim, signal: str) -> None:
        """Send a signal to a task."""
        body = {"Signal": signal, "Task": victim.task}
        await self._call("PUT", f"/client/allocation/{victim.allocation}/signal", body)

    async def stop(self, job: str) -> dict[str, Any]:
        """Stop a job; return what starts it again."""
        definition = await self.definition(job)
        await self._call("DELETE", f"/job/{job}")
        return definition

    async def start(self, definition: dict[str, Any]) -> None:
        """Register a job again as it was."""
        await self._call("POST", "/jobs", {"Job": {**definition, "Stop": False}})
