"""Consul: where instances are, which of them pass their checks, and switches in its KV store."""

import base64
from collections.abc import AsyncIterator

import aiohttp

WAIT_S = 30


class NotFound(Exception):  # noqa: N818 - an answer
    """No instance of a service passes its checks."""


async def address_of(consul_url: str, service: str, session: aiohttp.ClientSession) -> str:
    """Return host:port of a passing instance of a service."""
    query = {"passing": "true"}
    path = f"{consul_url}/v1/health/service/{service}"
    async with session.get(path, params=query) as answer:
        answer.raise_for_status()
        found = await answer.json()
    if not found:
        raise NotFound(f"No instance of {service} passes its checks; look at `just status`.")
    service_entry = found[0]["Service"]
    host = service_entry["Address"] or found[0]["Node"]["Address"]
    return f"{host}:{service_entry['Port']}"


async def url_of(consul_url: str, service: str, session: aiohttp.ClientSession) -> str:
    """Return the URL of a passing instance of a service."""
    return f"http://{await address_of(consul_url, service, session)}"


async def passing(
    consul_url: str, service: str, session: aiohttp.ClientSession
) -> AsyncIterator[frozenset[str]]:
    """Yield which instances of a service pass their checks, now and whenever it changes.

    An instance is named by the id of its registration, which holds its allocation's id.
    """
    index = "0"
    path = f"{consul_url}/v1/health/service/{service}"
    timeout = aiohttp.ClientTimeout(total=WAIT_S * 1.1 + 5)
    while True:
        query = {"passing": "true", "index": index, "wait": f"{WAIT_S}s"}
        async with session.get(path, params=query, timeout=timeout) as answer:
            answer.raise_for_status()
            found = await answer.json()
        told = answer.headers["X-Consul-Index"]
        index = told if int(told) >= int(index) else "0"
        yield frozenset(entry["Service"]["ID"] for entry in found)


async def read_key(consul_url: str, key: str, session: aiohttp.ClientSession) -> str | None:
    """Return the value of a key; None when it is not set."""
    async with session.get(f"{consul_url}/v1/kv/{key}") as answer:
        if answer.status == 404:  # noqa: PLR2004
            return None
        answer.raise_for_status()
        found = await answer.json()
    return base64.b64decode(found[0]["Value"] or "").decode()


async def write_key(
    consul_url: str, key: str, value: str | None, session: aiohttp.ClientSession
) -> None:
    """Set a key, or remove it."""
    url = f"{consul_url}/v1/kv/{key}"
    request = session.delete(url) if value is None else session.put(url, data=value.encode())
    async with request as answer:
        answer.raise_for_status()
