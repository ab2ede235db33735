"""The API's description for everybody: as a document, and as a page that needs no other host."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from services.api_gateway.access import SERVICES
from services.api_gateway.description import INFO, OWN, TAGS, guarded
from services.contracts.problems import Problem
from services.runtime.http.client import Siblings
from services.runtime.http.openapi import PART_PATH, Conflict, Part, document
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable

DOCUMENT_PATH = "/openapi.json"
PAGE_PATH = "/docs"
FRESH_S = 10.0
"""How long a document serves; a new release of a service shows after that."""
RETRY_S = 1.0
CALL_TIMEOUT_S = 2.0
ASSETS: Final = {
    "/docs/swagger-ui.css": "css/swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "js/swagger-ui-bundle.js",
}
_START_PATH = "/docs/start.js"
OPEN_PATHS: Final = frozenset({DOCUMENT_PATH, PAGE_PATH, _START_PATH, *ASSETS})
"""Answered without an API key."""
_SWAGGER = "flask_openapi3_swagger/templates/swagger"
_PAGE = f"""\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{INFO["title"]} API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="{_START_PATH}"></script>
</html>
"""
_START = f"""\
SwaggerUIBundle({{
  url: "{DOCUMENT_PATH}",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
}});
"""
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
}

_log = log(__name__)


class Docs:
    """Serves the description, put together of what each service says of itself."""

    def __init__(self, siblings: Siblings, clock: Callable[[], float]) -> None:
        self._siblings = siblings
        self._clock = clock
        self._document: bytes | None = None
        self._ask_again_at = clock()
        self._asking = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the document, of the page and of its assets."""
        assets = Path(str(distribution("flask-openapi3-swagger").locate_file(_SWAGGER)))
        return [
            web.get(DOCUMENT_PATH, self._show),
            web.get(PAGE_PATH, _text(_PAGE, "text/html", _PAGE_HEADERS)),
            web.get(_START_PATH, _text(_START, "text/javascript")),
            *(web.get(path, _file(assets / name)) for path, name in ASSETS.items()),
        ]

    async def _show(self, _request: web.Request) -> web.Response:
        async with self._asking:
            if self._clock() >= self._ask_again_at:
                await self._refresh()
        if self._document is None:
            detail = "The services that describe the API are away."
            raise Problem("unavailable", detail, retry_after_s=int(RETRY_S))
        return web.Response(body=self._document, content_type="application/json")

    async def _refresh(self) -> None:
        """Put the document together; while a service is away the last one serves."""
        names = sorted(set(SERVICES.values()))
        try:
            parts = await asyncio.gather(*map(self._ask, names))
            merged = document(INFO, TAGS, [*map(guarded, parts), OWN])
        except (Unavailable, Conflict) as error:
            _log.warning("description_waits", reason=str(error)[:200])
            self._ask_again_at = self._clock() + RETRY_S
            return
        self._document = msgspec.json.encode(merged)
        self._ask_again_at = self._clock() + FRESH_S

    async def _ask(self, service: str) -> Part:
        answer = await self._siblings.request(
            service, "GET", PART_PATH, timeout_s=CALL_TIMEOUT_S, repeatable=True
        )
        if answer.status != HTTPStatus.OK:
            raise Unavailable(service, f"answered {answer.status}")
        return msgspec.json.decode(answer.body, type=Part)


def _text(
    text: str, kind: str, headers: dict[str, str] | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def show(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=kind, headers=headers)

    return show


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    async def show(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers={"Cache-Control": "max-age=3600"})

    return show
