"""Typed routes: a handler's annotations say what is decoded from body, query and path."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType
from typing import Annotated, Any, TypeVar, get_args

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from services.contracts.problems import Problem
from services.contracts.records import ChannelName
from services.runtime.http.server import BODY_SIZE_MAX_BYTES, read_body

TEXT_LENGTH_MAX = 10_000
Text = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TEXT_LENGTH_MAX,
        pattern=r"\A[^\x00]*\Z",
        examples=["Hello 👋"],
    ),
]
"""What people write: any script, no NUL."""
Label = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00]*\Z", examples=["Ada"])
]
"""A short name."""
Channel = Annotated[
    ChannelName, Meta(description="One of GET /api/v1/channels.", examples=["CHANNEL"])
]
"""The name of a channel."""
Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""A time as the API writes it: RFC 3339, UTC, milliseconds."""

JSON = "application/json"
_encode = msgspec.json.Encoder().encode
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]+)`")
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
Handler = Callable[..., Awaitable[object]]
F = TypeVar("F", bound=Handler)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not just a body with the route's usual status."""

    body: object
    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """What a handler was declared to serve."""

    method: str
    path: str
    status: int
    answer: Any
    codes: tuple[str, ...]
    answer_headers: Mapping[str, str]


def endpoint(
    method: str,
    path: str,
    *,
    status: int = 200,
    answer: Any = None,
    codes: tuple[str, ...] = (),
    answer_headers: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[F], F]:
    """Declare a method of a routes class as the handler of a path.

    Its parameters `body`, `query`, `path` and `headers` (message structs) are decoded and
    validated from the request, a parameter `request` is the request itself. It returns a struct,
    answered with `status`, a Reply, a response of aiohttp's, or None for an answer without a body.

    What else the API's description says is declared here: the type in a Reply (`answer`), the
    codes of the problems that only this handler raises, and its own headers with what they mean.
    """

    def declare(handler: F) -> F:
        declared = Route(method, path, status, answer, codes, answer_headers)
        handler.__route__ = declared  # type: ignore[attr-defined]
        return handler

    return declare


def endpoints_of(owner: object) -> Iterator[tuple[Handler, Route]]:
    """Yield every endpoint method of an object and what it was declared to serve."""
    for _, handler in inspect.getmembers(owner, inspect.ismethod):
        route: Route | None = getattr(handler, "__route__", None)
        if route is not None:
            yield handler, route


def routes_of(owner: object) -> Iterator[web.RouteDef]:
    """Yield the aiohttp routes of every endpoint method of an object."""
    for handler, route in endpoints_of(owner):
        yield web.route(route.method, route.path, _adapt(handler, route))


def kinds_of(handler: Handler) -> dict[str, Any]:
    """Return the type of each parameter of a handler by its name."""
    return {name: p.annotation for name, p in inspect.signature(handler).parameters.items()}


def body_of(kinds: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return the type of a handler's body, and whether a request may come without one."""
    choices = get_args(kinds["body"])
    if NoneType not in choices:
        return kinds["body"], False
    return next(choice for choice in choices if choice is not NoneType), True


def _adapt(
    handler: Handler, route: Route
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    kinds = kinds_of(handler)
    decoder = msgspec.json.Decoder(kinds["body"]) if "body" in kinds else None
    may_lack = "body" in kinds and body_of(kinds)[1]

    async def handle(request: web.Request) -> web.StreamResponse:
        given: dict[str, Any] = {}
        if "path" in kinds:
            given["path"] = convert(dict(request.match_info), kinds["path"], "invalid_field")
        if "query" in kinds:
            given["query"] = _query(request, kinds["query"])
        if "headers" in kinds:
            given["headers"] = _headers(request, kinds["headers"])
        if may_lack and not request.can_read_body:
            given["body"] = None
        elif decoder is not None:
            given["body"] = decode(await _json_body(request), decoder)
        if "request" in kinds:
            given["request"] = request
        return _answer(await handler(**given), route.status)

    return handle


def _answer(result: object, status: int) -> web.StreamResponse:
    if isinstance(result, Reply):
        reply = result
    elif isinstance(result, web.StreamResponse):
        return result
    else:
        reply = Reply(result, status)
    if reply.body is None:
        return web.Response(status=204, headers=reply.headers)
    return web.Response(
        body=_encode(reply.body),
        status=reply.status,
        headers={"Content-Type": JSON, **reply.headers},
    )


def _headers(request: web.Request, kind: type[Struct]) -> Any:
    names: tuple[str, ...] = kind.__struct_encode_fields__
    found = {name: request.headers[name] for name in names if name in request.headers}
    return convert(found, kind, "invalid_field")


def _query(request: web.Request, kind: type[Struct]) -> Any:
    values = dict(request.query)
    if len(values) < len(request.query):
        raise Problem("invalid_query", "Send each parameter once.")
    return convert(values, kind, "invalid_query")


async def _json_body(request: web.Request) -> bytes:
    if request.headers.get("Content-Type") != JSON and request.content_type != JSON:
        raise Problem("unsupported_media_type", "Send the header Content-Type: application/json.")
    return await read_body(request, BODY_SIZE_MAX_BYTES)


def decode(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Decode and validate a JSON body; raise the Problem that names the field at fault."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _problem(error, "invalid_field") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("invalid_json", str(error)) from error


def convert(values: dict[str, str], kind: type[Struct], code: str) -> Any:
    """Validate values that came as strings; raise the Problem that names the one at fault."""
    try:
        found = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _problem(error, code) from error
    for name, sent in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        # The word null was taken for the absence of a value.
        if sent in values and getattr(found, name) is None:
            raise Problem(code, "Leave it out instead.", field=sent)
    return found


def _problem(error: msgspec.ValidationError, code: str) -> Problem:
    text = str(error)
    found = _PATH.search(text)
    path = found["path"] if found else ""
    for pattern, special in ((_MISSING, "missing_field"), (_UNKNOWN, "unknown_field")):
        named = pattern.match(text)
        if named:
            path = f"{path}.{named['name']}".lstrip(".")
            code = special if code == "invalid_field" else code
    return Problem(code, _PATH.sub("", text) + ".", field=path or None)
