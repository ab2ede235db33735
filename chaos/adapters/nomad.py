"""Nomad, as far as breaking things on purpose and watching it needs it."""

import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

STREAM = aiohttp.ClientTimeout(total=None, sock_connect=5)
LINE_MAX_BYTES = 16 * 1024 * 1024


class NotAllowed(Exception):  # noqa: N818 - a refusal
    """A job that does not say it may be broken."""


class NoSuchJob(Exception):  # noqa: N818 - a refusal
    """A job that is not registered."""


class DeployFailed(Exception):  # noqa: N818 - an answer
    """A new version of a job did not become healthy."""


class Victim(Struct, frozen=True, kw_only=True):
    """A running task that may be broken."""

    job: str
    allocation: str
    task: str


class TaskEvent(Struct, frozen=True, kw_only=True):
    """Something Nomad says of a task, with its own time in seconds."""

    job: str
    allocation: str
    task: str
    kind: str
    at: float
    detail: str


class Nomad:
    """An agent's HTTP API; touches only jobs whose meta says chaos = "allowed"."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self._api = self.url + "/v1"
        self._session = session

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, self._api + path, json=body) as answer:
            answer.raise_for_status()
            text = await answer.read()
            return msgspec.json.decode(text) if text else None

    async def _job(self, job: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await self._call("GET", f"/job/{job}")
        except aiohttp.ClientResponseError as error:
            if error.status != 404:  # noqa: PLR2004
                raise
            raise NoSuchJob(f"there is no job {job}: look at `just status`") from error
        return found

    async def count(self, job: str) -> int:
        """Return how many instances of a job are wanted."""
        found = await self._job(job)
        return 0 if found["Stop"] else sum(group["Count"] for group in found["TaskGroups"])

    async def restarts(self, job: str) -> tuple[int, float]:
        """Return how many restarts Nomad allows a task in its interval, and after what delay."""
        policy = (await self._job(job))["TaskGroups"][0]["RestartPolicy"]
        return int(policy["Attempts"]), policy["Delay"] / 1e9

    async def definition(self, job: str) -> dict[str, Any]:
        """Return a job as it is registered; raise NotAllowed when it may not be broken."""
        found = await self._job(job)
        if (found.get("Meta") or {}).get("chaos") != "allowed":
            raise NotAllowed(f'{job} does not allow chaos: its meta has no chaos = "allowed".')
        return found

    async def victims(self, job: str) -> list[Victim]:
        """Return the running tasks of a job that may be broken, in random order."""
        await self.definition(job)
        found = await self.running(job)
        return random.sample(found, len(found))

    async def running(self, job: str) -> list[Victim]:
        """Return the running tasks of a job."""
        return [
            Victim(job=job, allocation=allocation["ID"], task=task)
            for allocation in await self._call("GET", f"/job/{job}/allocations")
            for task, state in (allocation["TaskStates"] or {}).items()
            if allocation["ClientStatus"] == "running" and state["State"] == "running"
        ]

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

    async def stopped(self, job: str) -> bool:
        """Tell whether a job is stopped."""
        return bool((await self._job(job))["Stop"])

    async def deployed(self, job: str) -> bool:
        """Tell whether the last deployment of a job's newest version succeeded."""
        version = (await self._job(job))["Version"]
        last = await self._call("GET", f"/job/{job}/deployment")
        if last and last["JobVersion"] == version and last["Status"] in ("failed", "cancelled"):
            raise DeployFailed(f"the deployment of {job} {last['Status']}")
        return bool(last and last["JobVersion"] == version and last["Status"] == "successful")

    async def task_events(self) -> AsyncIterator[TaskEvent]:
        """Yield what happens to tasks from now on, until the connection ends."""
        told: set[tuple[str, str, int]] = set()
        path = f"{self._api}/event/stream"
        query = {"topic": "Allocation"}
        async with self._session.get(path, params=query, timeout=STREAM) as answer:
            answer.raise_for_status()
            async for line in _lines(answer):
                for event in msgspec.json.decode(line).get("Events") or ():
                    for found, key in _of_allocation(event["Payload"]["Allocation"]):
                        if key not in told:
                            told.add(key)
                            yield found

    async def log_lines(
        self, allocation: str, task: str, stream: str, *, from_start: bool
    ) -> AsyncIterator[bytes]:
        """Yield the lines of a task's log, those that are written from now on or all."""
        path = f"{self._api}/client/fs/logs/{allocation}"
        query = {"task": task, "type": stream, "follow": "true", "plain": "true"}
        query |= {"origin": "start" if from_start else "end", "offset": "0"}
        async with self._session.get(path, params=query, timeout=STREAM) as answer:
            answer.raise_for_status()
            async for line in _lines(answer):
                yield line


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield whole lines, however long."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > LINE_MAX_BYTES:
            raise ValueError("a line without an end")


def _of_allocation(
    allocation: dict[str, Any],
) -> list[tuple[TaskEvent, tuple[str, str, int]]]:
    return [
        (
            TaskEvent(
                job=allocation["JobID"],
                allocation=allocation["ID"],
                task=task,
                kind=event["Type"],
                at=event["Time"] / 1e9,
                detail=event.get("DisplayMessage") or "",
            ),
            (allocation["ID"], task, event["Time"]),
        )
        for task, state in (allocation.get("TaskStates") or {}).items()
        for event in state.get("Events") or ()
    ]
