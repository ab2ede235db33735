"""What Prometheus has of the running platform: every instance, and the way of a message."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chaos.adapters.consul import url_of
from chaos.adapters.platform import Platform
from chaos.waiting import until
from chaos.workload import prepare

pytestmark = pytest.mark.cluster

TAG = "chat4all"
APPEARS_DEADLINE_S = 30.0
MESSAGE_PATH = (
    'chat4all_messages_accepted_total{{channel="{0}"}} > 0',
    'chat4all_deliveries_routed_total{{channel="{0}",outcome="addressed"}} > 0',
    'chat4all_delivery_attempts_total{{channel="{0}",outcome="accepted"}} > 0',
    'chat4all_delivery_stage_seconds_count{{channel="{0}",stage="routed"}} > 0',
    'chat4all_ledger_depth_deliveries{{channel="{0}"}}',
    'chat4all_consumer_lag_records{{topic="chat-events"}}',
    'chat4all_http_request_seconds_count{{service="api-gateway"}} > 0',
)
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
async def ask(platform: Platform) -> Ask:
    """Return a function that asks Prometheus."""
    url = await url_of(platform.consul_url, "prometheus", platform.session)

    async def found(path: str, **query: str) -> Any:
        async with platform.session.get(f"{url}/api/v1/{path}", params=query) as answer:
            answer.raise_for_status()
            return (await answer.json())["data"]

    return found


async def test_every_instance_is_scraped(platform: Platform, ask: Ask) -> None:
    """Whatever Consul has of ours is a target that answers, and nothing else is."""

    async def all_are() -> bool:
        targets = (await ask("targets", state="active"))["activeTargets"]
        well = {
            f"{target['labels']['service']} {target['discoveredLabels']['__address__']}"
            for target in targets
            if target["health"] == "up"
        }
        return len(targets) == len(well) and well == await registered(platform)

    await until("every instance being scraped", all_are, APPEARS_DEADLINE_S)


@pytest.mark.parametrize("query", MESSAGE_PATH)
async def test_the_way_of_a_message_is_measured(
    platform: Platform, channel: str, ask: Ask, query: str
) -> None:
    """Accepted, routed, sent, each by channel; how long that took, and what waits."""
    lane = (await prepare(platform.api, channel, 1))[0]
    body = {
        "conversation_id": lane.conversation_id,
        "sender_id": lane.sender_id,
        "content": "measured",
    }
    assert (await platform.api.call("POST", "/messages", body))[0] == 202

    async def there() -> bool:
        return bool((await ask("query", query=query.format(channel)))["result"])

    await until(query, there, APPEARS_DEADLINE_S)


async def registered(platform: Platform) -> set[str]:
    """Return name and address of each instance that Consul has of ours."""
    found = set()
    for name, tags in (await consul(platform, "catalog/services")).items():
        if TAG in tags:
            for entry in await consul(platform, f"health/service/{name}"):
                service = entry["Service"]
                found.add(f"{name} {service['Address']}:{service['Port']}")
    return found


async def consul(platform: Platform, path: str) -> Any:
    """Ask Consul."""
    async with platform.session.get(f"{platform.consul_url}/v1/{path}") as answer:
        answer.raise_for_status()
        return await answer.json()
