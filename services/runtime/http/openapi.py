"""The description of the public API, OpenAPI 3.1, made of the same types that validate it."""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from services.contracts.problems import CATALOGUE, Problem, ProblemBody
from services.runtime.http.routes import (
    Handler,
    Reply,
    Route,
    body_of,
    endpoint,
    endpoints_of,
    kinds_of,
)
from services.runtime.http.server import REQUEST_ID_HEADER

PUBLIC_PREFIX = "/api/v1/"
"""What is served elsewhere is not described."""
PART_PATH = "/internal/openapi"
PROBLEM_TYPE = "application/problem+json"
COMMON_CODES = (
    "missing_api_key",
    "invalid_api_key",
    "missing_scope",
    "rate_limited",
    "internal_error",
    "unavailable",
)
BODY_CODES = (
    "invalid_json",
    "body_too_slow",
    "body_too_large",
    "unsupported_media_type",
    "invalid_field",
    "missing_field",
    "unknown_field",
)
RETRY_AFTER = "Retry-After"
RATE_LIMIT_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
RETRIED_STATUSES = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_SCHEMAS = "#/components/schemas/"
_PLAIN = {"type": "string"}
_REQUEST_ID_EXAMPLE = "0197c6a4-5b7e-7c3f-9d1a-2f6b8e4c0a51"


class Part(Struct, frozen=True):
    """What one service serves to the public: operations by path and method, named schemas."""

    paths: dict[str, dict[str, Any]]
    schemas: dict[str, Any]


class Conflict(ValueError):  # noqa: N818 - a state of the parts, not a mistake here
    """Two parts describe something differently under one name."""


class PartRoutes:
    """Answers the gateway what the routes of a service are."""

    def __init__(self, *owners: object) -> None:
        self._part = part_of(*owners)

    @endpoint("GET", PART_PATH)
    async def part(self) -> Part:
        """Return the service's part of the description."""
        return self._part


def part_of(*owners: object) -> Part:
    """Describe the public endpoints of routes objects."""
    declared = sorted(
        (
            (route, handler)
            for owner in owners
            for handler, route in endpoints_of(owner)
            if route.path.startswith(PUBLIC_PREFIX)
        ),
        key=lambda pair: (pair[0].path, pair[0].method),
    )
    types = _Types([kind for route, handler in declared for kind in _kinds(route, handler)])
    paths: dict[str, dict[str, Any]] = {}
    for route, handler in declared:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, handler, types)
    return Part(paths, types.schemas)


def document(info: Mapping[str, str], tags: Iterable[str], parts: Iterable[Part]) -> dict[str, Any]:
    """Return the whole description; raise Conflict when its parts disagree."""
    (_, schemas) = msgspec.json.schema_components([ProblemBody], ref_template=f"{_SCHEMAS}{{name}}")
    paths: dict[str, Any] = {}
    for part in parts:
        _join(paths, part.paths)
        _join(schemas, part.schemas)
    by_status = defaultdict(list)
    for code, (status, _) in CATALOGUE.items():
        by_status[status].append(code)
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                f"Problem{status}": _problems(status, codes) for status, codes in by_status.items()
            },
            "examples": {code: _example(code) for code in CATALOGUE},
            "parameters": {"RequestId": _REQUEST_ID_PARAMETER},
            "headers": _HEADERS,
            "securitySchemes": {
                "api_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: `Authorization: Bearer <API key>`.",
                }
            },
        },
    }


def problem_responses(codes: Iterable[str]) -> dict[str, Any]:
    """Return the responses with which an operation answers these problems, by status."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in CATALOGUE:
        if code in set(codes):
            by_status[CATALOGUE[code][0]].append(code)
    return {
        str(status): _ref("responses", f"Problem{status}")
        if found == [code for code, (other, _) in CATALOGUE.items() if other == status]
        else _problems(status, found)
        for status, found in by_status.items()
    }


def response(
    description: str,
    content: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return an answer without a problem, by the schema of each media type."""
    found: dict[str, Any] = {
        "description": description,
        "headers": {REQUEST_ID_HEADER: _ref("headers", REQUEST_ID_HEADER), **headers},
    }
    if content is not None:
        found["content"] = {kind: {"schema": schema} for kind, schema in content.items()}
    return found


class _Types:
    """The schemas of types: those of parameters are taken apart, the others are named."""

    def __init__(self, kinds: list[Any]) -> None:
        self._kinds = list(dict.fromkeys(kinds))
        found, components = msgspec.json.schema_components(
            self._kinds, ref_template=f"{_SCHEMAS}{{name}}"
        )
        self._refs = found
        self.schemas: dict[str, Any] = _portable(components)
        self._taken: dict[str, Any] = {}

    def ref(self, kind: Any) -> dict[str, Any]:
        """Return the reference to the schema of a type."""
        return self._refs[self._kinds.index(kind)]

    def description(self, kind: Any) -> str:
        """Return what a type says of itself."""
        return str(self.schemas[self.ref(kind)["$ref"].removeprefix(_SCHEMAS)]["description"])

    def parameters(self, kind: Any, where: str) -> list[dict[str, Any]]:
        """Return the fields of a type as parameters of a request; the type needs no name then."""
        name = self.ref(kind)["$ref"].removeprefix(_SCHEMAS)
        if name in self.schemas:
            self._taken[name] = self.schemas.pop(name)
        taken = self._taken[name]
        return [
            _parameter(field, where, schema, required=field in taken["required"])
            for field, schema in taken["properties"].items()
        ]


def _kinds(route: Route, handler: Handler) -> list[Any]:
    given = kinds_of(handler)
    kinds = [given[name] for name in ("path", "query", "headers") if name in given]
    if "body" in given:
        kinds.append(body_of(given)[0])
    answer = _answer_kind(route, handler)
    return kinds if answer is None else [*kinds, answer]


def _answer_kind(route: Route, handler: Handler) -> Any:
    kind = route.answer or inspect.signature(handler).return_annotation
    if inspect.isclass(kind) and issubclass(kind, Reply | web.StreamResponse):
        raise TypeError(f"{handler.__qualname__} has to be declared with the type of its answer")
    return kind


def _operation(route: Route, handler: Handler, types: _Types) -> dict[str, Any]:
    given = kinds_of(handler)
    tag = route.path.removeprefix(PUBLIC_PREFIX).partition("/")[0]
    summary, _, more = (inspect.getdoc(handler) or "").partition("\n\n")
    parameters = [
        parameter
        for name, where in (("path", "path"), ("query", "query"), ("headers", "header"))
        if name in given
        for parameter in types.parameters(given[name], where)
    ]
    found: dict[str, Any] = {
        "operationId": f"{tag}_{handler.__name__}".replace("-", "_"),
        "tags": [tag],
        "summary": summary.removesuffix("."),
        "description": more,
        "parameters": [*parameters, _ref("parameters", "RequestId")],
    }
    if "body" in given:
        body, may_lack = body_of(given)
        content = {"application/json": {"schema": types.ref(body)}}
        found["requestBody"] = {"required": not may_lack, "content": content}
    answer = _answer_kind(route, handler)
    headers = {name: _ref("headers", name) for name in RATE_LIMIT_HEADERS} | {
        name: {"description": meaning, "schema": _PLAIN}
        for name, meaning in route.answer_headers.items()
    }
    if answer is None:
        success = {"204": response("Done.", headers=headers)}
    else:
        content = {"application/json": types.ref(answer)}
        success = {str(route.status): response(types.description(answer), content, headers)}
    found["responses"] = success | problem_responses(_codes(route, given, parameters))
    return found


def _codes(
    route: Route, given: Mapping[str, Any], parameters: list[dict[str, Any]]
) -> tuple[str, ...]:
    """Return the codes that an endpoint can answer because of what it takes, and its own."""
    codes = [*COMMON_CODES, *route.codes]
    if "body" in given:
        codes += BODY_CODES
    if "query" in given:
        codes.append("invalid_query")
    if "path" in given:
        codes.append("not_found")
    if any(one["in"] != "query" and one["schema"] != _PLAIN for one in parameters):
        codes.append("invalid_field")
    return tuple(codes)


def _parameter(name: str, where: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """Return a parameter; one that may be left out is never sent as null."""
    shown = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    choices = [one for one in shown.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        shown = {**{k: v for k, v in shown.items() if k != "anyOf"}, **choices[0]}
    found = {"name": name, "in": where, "required": required, "schema": shown}
    if "description" in shown:
        found["description"] = shown.pop("description")
    return found


def _problems(status: int, codes: Iterable[str]) -> dict[str, Any]:
    headers = [REQUEST_ID_HEADER]
    if status in RETRIED_STATUSES:
        headers.append(RETRY_AFTER)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers += RATE_LIMIT_HEADERS
    return {
        "description": HTTPStatus(status).phrase + ".",
        "headers": {name: _ref("headers", name) for name in headers},
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": f"{_SCHEMAS}{ProblemBody.__name__}"},
                "examples": {code: _ref("examples", code) for code in codes},
            }
        },
    }


def _example(code: str) -> dict[str, Any]:
    problem = Problem(code)
    value = msgspec.to_builtins(problem.body(_REQUEST_ID_EXAMPLE))
    return {"summary": problem.title, "value": value}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _join(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        if whole.setdefault(name, value) != value:
            raise Conflict(f"{name} is described in two ways")


def _portable(schema: Any) -> Any:
    """Return a schema with the ends of its patterns written as JSON Schema's dialect has them."""
    if isinstance(schema, list):
        return [_portable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.replace(r"\A", "^").replace(r"\Z", "$")
        if name == "pattern" and isinstance(value, str)
        else _portable(value)
        for name, value in schema.items()
    }


_REQUEST_ID_PARAMETER = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "required": False,
    "schema": _PLAIN,
    "description": "A name for the request: 1 to 128 letters, digits and `_.:-`. Without one, "
    "or with another, the request is given a name.",
}
_HEADERS = {
    REQUEST_ID_HEADER: {
        "description": "The request's name, the one that problems and logs carry.",
        "required": True,
        "schema": _PLAIN,
    },
    RETRY_AFTER: {
        "description": "After how many seconds to repeat the request.",
        "required": True,
        "schema": {"type": "integer"},
    },
    **{
        name: {"description": meaning, "schema": {"type": "integer"}}
        for name, meaning in zip(
            RATE_LIMIT_HEADERS,
            (
                "How many requests the API key may send at once.",
                "How many of them are left.",
                "After how many seconds there are as many again.",
            ),
            strict=True,
        )
    },
}
