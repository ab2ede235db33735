"""What every HTTP answer has in common: request id, trace, problems, authentication, metrics."""

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from functools import cache

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.contracts.ids import new_text_id
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
ANSWER_HEADERS: web.RequestKey[dict[str, str]] = web.RequestKey("answer_headers", dict)
"""What the answer to a request says whatever it is; a guard may add to it."""
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SERVER_ERROR = 500
_ROUTER_PROBLEMS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Guard = Callable[[web.Request], Awaitable[None]]
"""Lets a request pass or raises a Problem."""

_log = log(__name__)
_durations = cache(metrics.http_requests.labels)


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
    content = request.content
    if content.is_eof():
        # All of it came with the headers, as most bodies do: nothing is to be waited for.
        whole = content.read_nowait()
        _check_size(len(whole), size_max_bytes)
        return whole
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in content.iter_any():
                body += chunk
                _check_size(len(body), size_max_bytes)
    except TimeoutError as error:
        raise Problem("body_too_slow", f"Send it within {BODY_TIMEOUT_S:g} s.") from error
    return bytes(body)


def _check_size(size_bytes: int, size_max_bytes: int) -> None:
    if size_bytes > size_max_bytes:
        raise Problem("body_too_large", f"At most {size_max_bytes} bytes are taken here.")


def create(service: str, health: Health, guard: Callable[[], Guard]) -> web.Application:
    """Return an application with health, metrics and the behaviour common to all services."""
    app = web.Application(
        middlewares=[_front(service, guard)],
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


def _front(service: str, guard: Callable[[], Guard]) -> Middleware:
    """Return the one middleware: each more would cost every request several calls."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        sent = request.headers
        given = sent.get(REQUEST_ID_HEADER)
        request_id = given if given and _REQUEST_ID_FORM.fullmatch(given) else new_text_id()
        request[REQUEST_ID] = request_id
        headers = request[ANSWER_HEADERS] = {REQUEST_ID_HEADER: request_id}
        context = trace.proceed(sent.get(trace.HEADER))
        trace.current.set(context)
        try:
            if sent.get(EXPECT_HEADER, service) != service:
                raise Problem("misdirected")  # noqa: TRY301 - answered as any other
            if request.path not in OPERATIONAL:
                await guard()(request)
            response = await handler(request)
        except Exception as error:  # the edge: the client gets a problem, the log the cause
            problem = _problem_of(error)
            if problem is None:
                raise
            response = _refusal(problem, error, request_id)
        response.headers.update(headers)
        _observe(request, response.status, context, time.perf_counter() - started)
        return response

    return answer


def _observe(
    request: web.Request, status: int, context: trace.TraceContext, spent_s: float
) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unknown"
    _durations(request.method, route, status).observe(spent_s)
    if route not in OPERATIONAL and (context.sampled or status >= _SERVER_ERROR):
        _log.info(
            "http_request",
            method=request.method,
            route=route,
            status=status,
            request_id=request[REQUEST_ID],
            duration_ms=round(spent_s * 1000, 2),
        )


def _problem_of(error: Exception) -> Problem | None:
    """Return what a client is told of an error; None when aiohttp has to deal with it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, web.HTTPException):
        code = _ROUTER_PROBLEMS.get(error.status)
        return None if code is None else Problem(code)
    if isinstance(error, web.RequestPayloadError):
        return Problem("invalid_json", "It is not in the encoding that its headers name.")
    if isinstance(error, ConnectionResetError):
        return None
    dependency = dependency_of(error)
    if dependency is None:
        _log.error("request_failed", exc_info=error)
        return Problem("internal_error")
    _log.warning("dependency_away", dependency=dependency, detail=str(error)[:200])
    return Problem("unavailable", f"Waiting for {dependency}.", retry_after_s=1)


def _refusal(problem: Problem, error: Exception, request_id: str) -> web.Response:
    headers = {"Content-Type": "application/problem+json"}
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    return web.Response(
        body=msgspec.json.encode(problem.body(request_id)), status=problem.status, headers=headers
    )
