"""One process from start to graceful stop.

A service's `build(app)` wires its parts: it adds routes, starts tasks and registers what is to be
closed. Nothing in it waits for a dependency: the process lives, says in its readiness what it
waits for, and works as soon as that is there.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import aiohttp
import uvloop
from aiohttp import web

from services.runtime import config as configuration
from services.runtime.config import Config, InvalidConfig
from services.runtime.consul import Consul
from services.runtime.consul import configuration as consul_configuration
from services.runtime.cores import USUAL_SHARE_MHZ, take_place
from services.runtime.discovery import Discovery
from services.runtime.health import Health
from services.runtime.http.client import Siblings
from services.runtime.http.server import Guard, create, internal_guard
from services.runtime.kafka.lifeline import Lifelines
from services.runtime.telemetry.log import configure, log
from services.runtime.unavailable import Unavailable

C = TypeVar("C", bound=Config)
CONNECTIONS_MAX = 512
KEEPALIVE_SERVER_S = 75.0
KEEPALIVE_CLIENT_S = 30.0
"""Shorter than the server's, so that a reused connection is not just being closed."""
GC_THRESHOLD = 50_000
"""Allocations between collections: the default looks at every object many times a second."""
EXIT_CONFIG = 78

_log = log(__name__)


class App(Generic[C]):
    """What a service is built on: configuration, health, HTTP, discovery and owned tasks."""

    def __init__(self, config: C, session: aiohttp.ClientSession, consul: Consul) -> None:
        self.config = config
        self.session = session
        self.consul = consul
        self.health = Health()
        self.guard: Guard = internal_guard(config.internal_token)
        self.http = create(config.service_name, self.health, lambda: self.guard)
        self.discovery = Discovery(consul, self.spawn)
        self.siblings = Siblings(self.discovery, session, config.internal_token)
        self.lifelines = Lifelines(config, consul, self.discovery, self.health, self.spawn)
        self.public_ports: list[int] = []
        self.stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closers: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self.failed = False

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that lives as long as the process; its failure ends the process."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def on_stop(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        """Register what a graceful stop awaits, the last registered first."""
        self._closers.append((name, close))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", task=task.get_name(), exc_info=error)
            self.failed = True
            self.stopping.set()

    async def close(self) -> None:
        """Close what was registered, then end the tasks."""
        for name, close in reversed(self._closers):
            try:
                await close()
            except Exception as error:  # noqa: BLE001 - the others still have to be closed
                _log.error("close_failed", part=name, exc_info=error)
        await self.lifelines.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def run(kind: type[C], build: Callable[[App[C]], None]) -> None:
    """Run a service until it is told to stop; exit non-zero when it could not go on.

    Its job gives it a share of full cores: more to those whose answers are waited for than to
    those that work through a queue.
    """
    environment = os.environ
    configure(environment.get("SERVICE_NAME", "?"), environment.get("INSTANCE_ID", "?"))
    take_place(float(environment.get("NOMAD_CPU_LIMIT", USUAL_SHARE_MHZ)))
    sys.exit(uvloop.run(_live(kind, build)))


async def _live(kind: type[C], build: Callable[[App[C]], None]) -> int:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_CLIENT_S)
    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding",),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        consul = Consul(os.environ.get("CONSUL_HTTP_ADDR", "127.0.0.1:8500"), session)
        try:
            kv = await consul_configuration(consul, os.environ.get("SERVICE_NAME", ""))
            config = configuration.load(kind, os.environ, kv)
        except (InvalidConfig, Unavailable) as error:
            _log.error("cannot_start", problems=getattr(error, "problems", [str(error)]))
            return EXIT_CONFIG
        return await _serve(App(config, session, consul), build)


async def _serve(app: App[C], build: Callable[[App[C]], None]) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stopping.set)
    try:
        build(app)
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        runner = web.AppRunner(app.http, access_log=None, keepalive_timeout=KEEPALIVE_SERVER_S)
        await runner.setup()
        app.on_stop("http", runner.cleanup)
        await web.TCPSite(runner, app.config.http_host, app.config.http_port).start()
        for port in app.public_ports:
            await web.TCPSite(runner, app.config.http_host, port, reuse_port=True).start()
        _log.info("started", port=app.config.http_port)
        await app.stopping.wait()
        _log.info("stopping")
        app.health.stopping = True
    finally:
        try:
            async with asyncio.timeout(app.config.stop_timeout_s):
                await app.close()
        except TimeoutError:
            _log.error("stop_timed_out", timeout_s=app.config.stop_timeout_s)
            app.failed = True
    _log.info("stopped")
    return 1 if app.failed else 0
