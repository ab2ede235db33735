"""A platform in memory: API, Nomad, Consul and a provider's simulator on one port.

Its three routers are real processes that do nothing, so that signals, pidfds and restarts are
real; which of them owns a partition, and when it delivers, is played here.
"""

import asyncio
import base64
import json
import math
import os
import signal
import sys
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web
from aiokafka.errors import KafkaConnectionError

from chaos.adapters import processes
from chaos.adapters.kafka import GroupState, Member, partition_of
from services.contracts.topics import PARTITIONS

CHANNEL = "PIGEON"
JOBS = {"router": 3, "message": 2, "connector-pigeon": 2, "kafka": 1, "provider-pigeon": 1}
EVICTED_AFTER_S = 0.03
RESTARTED_AFTER_S = 0.2
STEP_S = 0.002


class FakePlatform:
    """Answers what the suite asks; `double` and `lose` make it a bad platform.

    `shown` is the status of a message for which the provider answered with an error.
    """

    def __init__(self) -> None:
        self.double = self.lose = False
        self.shown = "UNKNOWN"
        self.allowed = True
        self.stopped: set[str] = set()
        self.stable = True
        self.unread_after = math.inf
        """So many receipts are shown; then the simulator answers nothing but errors."""
        self.rebalance_s = 0.0
        self.url = ""
        self.kv: dict[str, str] = {}
        self.faults: dict[int, dict[str, Any]] = {}
        self.messages: dict[str, str] = {}
        self.receipts: list[dict[str, Any]] = []
        self.routers: dict[str, asyncio.subprocess.Process] = {}
        self.members: dict[str, str] = {}
        self.owners: dict[int, str] = {}
        self._generation = 1
        self._rebalances = 0
        self._queues: list[deque[tuple[str, str, str]]] = [deque() for _ in range(PARTITIONS)]
        self._events: list[dict[str, Any]] = []
        self._logs: dict[str, list[bytes]] = {}
        self._index = 1
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._addresses: dict[str, str] = {}

    async def start(self) -> None:
        """Start the routers and serve."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        for _ in range(JOBS["router"]):
            await self._launch(str(uuid4()))
        await self._rebalance()
        for partition in range(PARTITIONS):
            self._tasks.append(asyncio.create_task(self._deliver(partition)))

    async def stop(self) -> None:
        """End everything."""
        self._closing = True
        for router in self.routers.values():
            if router.returncode is None:
                router.send_signal(signal.SIGCONT)
                router.kill()
                await router.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()

    def group(self, name: str) -> GroupState:
        """Return a consumer group as the broker would describe it."""
        stable = self.stable and not self._rebalances
        state = "Stable" if stable else "PreparingRebalance"
        if name != "router":
            shares = [tuple(range(0, PARTITIONS, 2)), tuple(range(1, PARTITIONS, 2))]
            members = tuple(Member(f"m{n}", f"{name}-{n}", s) for n, s in enumerate(shares))
            return GroupState(state, members)
        return GroupState(
            state,
            tuple(
                Member(
                    member,
                    f"router-{alloc}",
                    tuple(p for p, owner in self.owners.items() if owner == alloc),
                )
                for alloc, member in self.members.items()
            ),
        )

    def behind(self, name: str) -> dict[int, int]:
        """Return how many messages wait in each partition of a group."""
        waiting = [len(queue) if name == "router" else 0 for queue in self._queues]
        return dict(enumerate(waiting))

    async def _launch(self, alloc: str) -> None:
        self.routers[alloc] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import signal; signal.pause()",
            env={**os.environ, "NOMAD_ALLOC_ID": alloc, "NOMAD_TASK_NAME": "router"},
        )
        self._tasks.append(asyncio.create_task(self._watch(alloc)))
        self.members[alloc] = f"router-{alloc}-{uuid4()}"
        self._happens(alloc, "Started")

    async def _watch(self, alloc: str) -> None:
        """Play what follows the death of a router: eviction, rebalance, restart, rebalance."""
        await self.routers[alloc].wait()
        if self._closing:
            return
        self._index += 1
        self._happens(alloc, "Terminated")
        await asyncio.sleep(EVICTED_AFTER_S)
        member = self.members.pop(alloc)
        self._broker(f"[Group router] Member {member} has left group through explicit `LeaveGroup`")
        if self.members:
            await self._rebalance()
        await asyncio.sleep(RESTARTED_AFTER_S)
        await self._launch(alloc)
        self._index += 1
        await self._rebalance()

    async def _rebalance(self) -> None:
        old, self._generation = self._generation, self._generation + 1
        words = f"Preparing to rebalance group router in state Stable with old generation {old}"
        self._broker(f"{words} (reason: x).")
        self._rebalances += 1
        await asyncio.sleep(self.rebalance_s)
        self._rebalances -= 1
        alive = sorted(self.members)
        self.owners = {p: alive[p % len(alive)] for p in range(PARTITIONS)}
        self._broker(
            f"Assignment received from leader x for group router for generation {old + 1}."
        )
        for alloc in alive:
            mine = [p for p, owner in self.owners.items() if owner == alloc]
            self._log(alloc, "partitions_assigned", partitions=mine)
            for partition in mine:
                self._log(alloc, "first_processed", partition=partition)

    def _log(self, alloc: str, event: str, **more: Any) -> None:
        at = datetime.now(UTC).isoformat()
        line = {"message": event, "timestamp": at, "instance": alloc, "group": "router", **more}
        self._logs.setdefault(alloc, []).append(json.dumps(line).encode() + b"\n")

    def _broker(self, text: str) -> None:
        at = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]  # noqa: DTZ005 - as brokers do
        self._logs.setdefault("kafka-0", []).append(f"{at} [x] INFO y - {text}\n".encode())

    def _happens(self, alloc: str, kind: str) -> None:
        event = {"Type": kind, "Time": time.time_ns(), "DisplayMessage": kind}
        states = {"router": {"State": "running", "Events": [event]}}
        allocation = {"JobID": "router", "ID": alloc, "TaskStates": states}
        self._events.append({"Events": [{"Payload": {"Allocation": allocation}}]})

    async def _deliver(self, partition: int) -> None:
        """Deliver a partition's messages in order while its owner is able to."""
        queue = self._queues[partition]
        while True:
            if queue and self._able(self.owners.get(partition, "")):
                message_id, to, text = queue.popleft()
                if any(fault["kind"] == "error" for fault in self.faults.values()):
                    self.messages[message_id] = self.shown
                    continue
                lost = self.lose and len(self.receipts) == 100
                self.lose = self.lose and not lost
                for _ in range(0 if lost else 2 if self.double and len(self.receipts) == 99 else 1):
                    at = time.time()
                    self.receipts.append(
                        {
                            "seq": len(self.receipts) + 1,
                            "received_at": at,
                            "answered_at": at,
                            "to": to,
                            "text": text,
                            "kept": True,
                        }
                    )
                self.messages[message_id] = "SENT"
            await asyncio.sleep(0 if queue and self._able(self.owners[partition]) else STEP_S)

    def _able(self, alloc: str) -> bool:
        router = self.routers.get(alloc)
        if router is None or router.returncode is not None or alloc not in self.members:
            return False
        process = processes.identify(router.pid)
        return process is not None and processes.state(process) not in ("T", None)

    def _instances(self, job: str) -> list[str]:
        if job in self.stopped:
            return []
        if job == "router":
            return [
                a for a, r in self.routers.items() if r.returncode is None and a in self.members
            ]
        return [f"{job}-{n}" for n in range(JOBS.get(job, 0))]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/api/v1/"):
            return await self._api(request, path.removeprefix("/api/v1/"))
        if path.startswith("/_sim/"):
            return await self._simulator(request, path.removeprefix("/_sim/"))
        if path.startswith("/v1/kv/"):
            return await self._keys(request, path.removeprefix("/v1/kv/"))
        if path.startswith("/v1/health/service/"):
            return await self._health(request, path.rpartition("/")[2])
        return await self._nomad(request, path.removeprefix("/v1/"))

    async def _api(self, request: web.Request, path: str) -> web.Response:
        if path == "channels":
            return web.json_response({"items": [{"channel": CHANNEL, "enabled": True}]})
        if path.endswith("/status"):
            message_id = path.split("/")[1]
            status = self.messages.get(message_id, "PENDING")
            delivery = {"recipient_id": "r", "status": status, "reason": None, "replay_no": 0}
            return web.json_response({"status": status, "deliveries": [delivery]})
        body = await request.json()
        if path == "messages":
            lane = body["conversation_id"]
            partition = partition_of(lane, PARTITIONS)
            self._queues[partition].append((body["message_id"], lane, body["content"]))
            return web.json_response({"status": "PENDING"}, status=202)
        return web.json_response(
            {"user_id": str(uuid4()), "conversation_id": str(uuid4())}, status=201
        )

    async def _simulator(self, request: web.Request, path: str) -> web.Response:
        if len(self.receipts) > self.unread_after:
            return web.Response(status=500)
        if path == "receipts":
            after, limit = int(request.query["after"]), int(request.query["limit"])
            return web.json_response({"items": self.receipts[after : after + limit]})
        if path == "state":
            count = len(self.receipts)
            return web.json_response({"received": count, "kept": count, "last_seq": count})
        if request.method == "POST":
            number = len(self.faults) + 1
            self.faults[number] = await request.json()
            return web.json_response({"id": number}, status=201)
        if request.method == "DELETE":
            self.faults.clear()
            return web.Response(status=204)
        items = [{"id": n, "fault": fault, "hits": 1} for n, fault in self.faults.items()]
        return web.json_response({"items": items})

    async def _keys(self, request: web.Request, key: str) -> web.Response:
        if request.method == "PUT":
            self.kv[key] = (await request.read()).decode()
        elif request.method == "DELETE":
            self.kv.pop(key, None)
        elif key in self.kv:
            value = base64.b64encode(self.kv[key].encode()).decode()
            return web.json_response([{"Value": value}])
        else:
            return web.Response(status=404)
        return web.json_response(data=True)

    async def _health(self, request: web.Request, service: str) -> web.Response:
        asked = int(request.query.get("index", "0"))
        while asked >= self._index:
            await asyncio.sleep(STEP_S)
        host, _, port = self.url.removeprefix("http://").partition(":")
        found = [
            {"Service": {"ID": name, "Address": host, "Port": int(port)}, "Node": {}}
            for name in self._instances(service)
        ]
        return web.json_response(found, headers={"X-Consul-Index": str(self._index)})

    async def _nomad(self, request: web.Request, path: str) -> web.StreamResponse:
        if path == "event/stream":
            return await self._stream(request, self._events)
        if path.startswith("client/fs/logs/"):
            lines = self._logs.setdefault(path.rpartition("/")[2], [])
            return await self._stream(request, lines)
        if path == "jobs":
            return self._register((await request.json())["Job"]["ID"], stopped=False)
        job = path.split("/")[1]
        if request.method == "DELETE":
            return self._register(job, stopped=True)
        return self._job(job, allocations=path.endswith("/allocations"))

    def _job(self, job: str, *, allocations: bool) -> web.Response:
        if job not in JOBS:
            return web.Response(status=404)
        if allocations:
            states = {job: {"State": "running"}}
            return web.json_response(
                [
                    {"ID": name, "ClientStatus": "running", "TaskStates": states}
                    for name in self._instances(job)
                ]
            )
        policy = {"Attempts": 5, "Delay": 1_000_000_000}
        meta = {"chaos": "allowed" if self.allowed else "forbidden"}
        return web.json_response(
            {
                "ID": job,
                "Stop": job in self.stopped,
                "Meta": meta,
                "Version": 1,
                "TaskGroups": [{"Count": JOBS[job], "RestartPolicy": policy}],
            }
        )

    def _register(self, job: str, *, stopped: bool) -> web.Response:
        self.stopped = self.stopped | {job} if stopped else self.stopped - {job}
        self._index += 1
        return web.json_response({})

    async def _stream(self, request: web.Request, source: list[Any]) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        sent = 0 if request.query.get("origin") == "start" else len(source)
        while not self._closing:
            for item in source[sent:]:
                line = item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n"
                await answer.write(line)
            sent = len(source)
            await asyncio.sleep(STEP_S)
        return answer


class FakeGroups:
    """Describes the groups of a platform in memory."""

    platform: FakePlatform

    def __init__(self, address: str) -> None:
        self.address = address

    async def describe(self, group: str) -> GroupState:
        """Return a group."""
        self._require()
        return self.platform.group(group)

    async def behind(self, group: str) -> dict[int, int]:
        """Return the lag of a group."""
        self._require()
        return self.platform.behind(group)

    async def close(self) -> None:
        """Nothing is open."""

    def _require(self) -> None:
        if "kafka" in self.platform.stopped:
            raise KafkaConnectionError("the broker is away")
