"""Finds a service's instance through Consul."""

import aiohttp


class NotFound(Exception):  # noqa: N818 - an answer
    """No instance of a service passes its checks."""


async def url_of(consul_url: str, service: str, session: aiohttp.ClientSession) -> str:
    """Return the URL of a passing instance of a service."""
    query = {"passing": "true"}
    path = f"{consul_url}/v1/health/service/{service}"
    async with session.get(path, params=query) as answer:
        answer.raise_for_status()
        found = await answer.json()
    if not found:
        raise NotFound(f"No instance of {service} passes its checks; look at `just status`.")
    service_entry = found[0]["Service"]
    host = service_entry["Address"] or found[0]["Node"]["Address"]
    return f"http://{host}:{service_entry['Port']}"
