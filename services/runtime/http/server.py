"""What every HTTP answer has in common: request id, trace, problems, authentication, metrics."""

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.contracts.ids import new_id
from services.contracts.problems import Problem
from services.runtime.health import Health
from services.runtime.http.client import EXPECT_HEADER
from services.runtime.telemetry import metrics, trace
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of

BODY_SIZE_MAX_BYTES = 256 * 1024
BODY_TIMEOUT_S = 10.0
"""How long a body may take to arrive: nobody holds a place for longer without an answer."""
REQUEST_ID_HEADER = "X-Request-Id"
OPERATIONAL = ("/health/live", "/health/ready", "/metrics")
"""Answered without authentication: checks and scrapers hold no key, and nothing there is secret."""
REQUEST_ID = web.RequestKey("request_id", str)
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SERVER_ERROR = 500
_ROUTER_PROBLEMS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Guard = Callable[[web.Request], Awaitable[None]]
"""Lets a request pass or raises a Problem."""

_log = log(__name__)


def internal_guard(internal_token: str) -> Guard:
    """Let only siblings pass, who know the installation's internal token."""
    expected = f"Bearer {internal_token}".encode()

    async def check(request: web.Request) -> None:
        presented = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(presented, expected):
            raise Problem("missing_api_key", "Call the platform through its gateway.")

    return check


async def read_body(request: web.Request, size_max_bytes: int) -> bytes:
    """Return the raw body; raise the Problem when it passes a limit of its own or is too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > size_max_bytes:
                    detail = f"At most {size_max_bytes} bytes are taken here."
                    raise Problem("body_too_large", detail)
    except TimeoutError as error:
        raise Problem("body_too_slow", f"Send it within {BODY_TIMEOUT_S:g} s.") from error
    return bytes(body)


def create(service: str, health: Health, guard: Callable[[], Guard]) -> web.Application:
    """Return an application with health, metrics and the behaviour common to all services."""
    app = web.Application(
        middlewares=[_observed, _problems, _guarded(service, guard)],
        client_max_size=BODY_SIZE_MAX_BYTES,
    )

    async def live(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(_request: web.Request) -> web.Response:
        down = await health.down()
        body = {"status": "not ready", "down": down} if down else {"status": "ready"}
        return web.json_response(body, status=503 if down else 200)

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    for path, handler in zip(OPERATIONAL, (live, ready, exposition), strict=True):
        app.router.add_get(path, handler)
    return app


@web.middleware
async def _observed(request: web.Request, handler: Handler) -> web.StreamResponse:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request_id = given if _REQUEST_ID_FORM.fullmatch(given) else str(new_id())
    request[REQUEST_ID] = request_id
    context = trace.proceed(request.headers.get(trace.HEADER))
    trace.current.set(context)
    started = time.perf_counter()
    response = await handler(request)
    response.headers[REQUEST_ID_HEADER] = request_id
    spent_s = time.perf_counter() - started
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unknown"
    metrics.http_requests.labels(request.method, route, response.status).observe(spent_s)
    if route not in OPERATIONAL and (context.sampled or response.status >= _SERVER_ERROR):
        _log.info(
            "http_request",
            method=request.method,
            route=route,
            status=response.status,
            request_id=request_id,
            duration_ms=round(spent_s * 1000, 2),
        )
    return response


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    headers: dict[str, str] = {}
    try:
        return await handler(request)
    except Problem as raised:
        problem = raised
    except web.HTTPException as error:
        if error.status not in _ROUTER_PROBLEMS:
            raise
        problem = Problem(_ROUTER_PROBLEMS[error.status])
        if isinstance(error, web.HTTPMethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    except web.RequestPayloadError:
        problem = Problem("invalid_json", "It is not in the encoding that its headers name.")
    except ConnectionResetError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge: the client gets a problem, the log the cause
        problem = _problem_of(error)
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    return web.Response(
        body=msgspec.json.encode(problem.body(request[REQUEST_ID])),
        status=problem.status,
        content_type="application/problem+json",
        headers=headers,
    )


def _problem_of(error: Exception) -> Problem:
    dependency = dependency_of(error)
    if dependency is None:
        _log.error("request_failed", exc_info=error)
        return Problem("internal_error")
    _log.warning("dependency_away", dependency=dependency, detail=str(error)[:200])
    return Problem("unavailable", f"Waiting for {dependency}.", retry_after_s=1)


def _guarded(
    service: str, guard: Callable[[], Guard]
) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get(EXPECT_HEADER, service) != service:
            raise Problem("misdirected")
        if request.path not in OPERATIONAL:
            await guard()(request)
        return await handler(request)

    return check
