"""Sends real messages through every channel and back, and holds them against the receipts."""

import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import Console

from chaos.adapters.api import Api
from chaos.adapters.platform import Platform, connect
from chaos.adapters.provider import Provider

DEADLINE_S = 30.0
POLL_S = 0.05
console = Console(highlight=False)


class DemoFailed(Exception):  # noqa: N818 - a sentence for the person watching
    """What was promised did not happen."""


async def until(
    what: str, look: Callable[[], Awaitable[Any]], deadline_s: float = DEADLINE_S
) -> Any:
    """Return what a look finds as soon as it finds something; DemoFailed after the deadline."""
    ends = time.monotonic() + deadline_s
    while time.monotonic() < ends:
        found = await look()
        if found:
            return found
        await asyncio.sleep(POLL_S)
    raise DemoFailed(f"{what} did not happen within {deadline_s:.0f} s; see `just logs message`.")


async def main() -> int:
    """Run the demonstration on the platform that the environment names."""
    async with connect() as platform:
        channels = await until("A channel becoming enabled", lambda: enabled(platform.api))
        try:
            for channel in channels:
                await converse(platform, channel)
            await gather(platform, channels)
        except DemoFailed as error:
            console.print(f"[red]{error}[/red]")
            return 1
    console.print(
        f"[green]{len(channels)} channels, both directions, and a group across them: "
        "delivered and answered as shown.[/green]"
    )
    return 0


async def enabled(api: Api) -> list[dict[str, Any]]:
    """Return the channels, once each that is deployed is enabled."""
    status, body, _ = await api.call("GET", "/channels")
    if status != 200:  # noqa: PLR2004 - the platform is starting
        return []
    items: list[dict[str, Any]] = body["items"]
    return items if items and all(item["enabled"] for item in items) else []


def some_address() -> str:
    """Return digits that are nobody's telephone number and somebody's id anywhere else."""
    return "1999" + "".join(secrets.choice("0123456789") for _ in range(8))


async def converse(platform: Platform, channel: dict[str, Any]) -> None:
    """Let an agent write to a customer on a channel, and the customer reply."""
    api, name = platform.api, channel["channel"]
    provider = await platform.provider(name)
    address = some_address()
    agent = (await api.create("users", {"kind": "AGENT", "name": "Ada"}))["user_id"]
    customer = await api.customer("Bruno", name, address)
    conversation = await api.conversation([agent, customer], name)
    console.print(f"\n[bold]{name}[/bold]  conversation {conversation}")

    text = f"Hello Bruno, your order is ready 📦 ({secrets.token_hex(4)})"
    sent = await send(api, conversation, agent, text)
    last = channel["capabilities"]["receipts"][-1]
    status = await until(
        f"{last} of the agent's message", lambda: reached(api, sent["message_id"], last)
    )
    show("agent -> customer", text, status)
    require_no_other(status, {name: channel["capabilities"]["receipts"]})
    received = await received_once(provider, address, text)

    reply = f"Thank you! 🎉 ({secrets.token_hex(4)})"
    await answer(provider, channel, address, reply, received)
    arrived = await until(
        "The customer's reply in the conversation", find(api, conversation, reply)
    )
    if arrived["sender_id"] != customer:
        raise DemoFailed("The reply came from somebody else than who wrote it.")
    if arrived["reply_to"] != sent["message_id"]:
        raise DemoFailed("The reply lost what it replies to.")
    console.print(f"  customer -> agent  {reply}")
    console.print(f"    {arrived['timestamp']}  received, in reply to {arrived['reply_to']}")


async def gather(platform: Platform, channels: list[dict[str, Any]]) -> None:
    """Let an agent write once to a group with a customer on every channel, and each answer."""
    api = platform.api
    agent = (await api.create("users", {"kind": "AGENT", "name": "Ada"}))["user_id"]
    addresses = {channel["channel"]: some_address() for channel in channels}
    customers = [await api.customer(f"Bruno on {n}", n, a) for n, a in addresses.items()]
    conversation = await api.conversation([agent, *customers], next(iter(addresses)))
    console.print(f"\n[bold]all channels[/bold]  conversation {conversation}")
    text = f"Hello everybody 👋 ({secrets.token_hex(4)})"
    sent = await send(api, conversation, agent, text)
    last = {channel["channel"]: channel["capabilities"]["receipts"][-1] for channel in channels}
    status = await until(
        "The last receipt of each channel", lambda: all_reached(api, sent["message_id"], last)
    )
    console.print(f"  agent -> {len(customers)} customers  {text}")
    require_no_other(status, {c["channel"]: c["capabilities"]["receipts"] for c in channels})
    for delivery in status["deliveries"]:
        name = delivery["channel"]
        console.print(f"    {name:10} {' -> '.join(e['status'] for e in delivery['history'])}")
    console.print(f"    together {status['status']}")
    for channel in channels:
        name = channel["channel"]
        provider, address = await platform.provider(name), addresses[name]
        received = await received_once(provider, address, text)
        reply = f"Hello from {name} ({secrets.token_hex(4)})"
        await answer(provider, channel, address, reply, received)
        arrived = await until(f"The reply from {name} in the group", find(api, conversation, reply))
        if arrived["channel"] != name:
            raise DemoFailed(f"What came from {name} is marked with {arrived['channel']}.")
        console.print(f"  customer -> group  {reply}, marked {arrived['channel']}")


async def send(api: Api, conversation: str, sender: str, text: str) -> dict[str, Any]:
    """Post a message; DemoFailed unless it is accepted."""
    body = {"conversation_id": conversation, "sender_id": sender, "content": text}
    status, answer, _ = await api.call("POST", "/messages", body)
    if status != 202:  # noqa: PLR2004
        raise DemoFailed(f"The message was answered {status}: {answer}")
    accepted: dict[str, Any] = answer
    return accepted


async def answer(
    provider: Provider, channel: dict[str, Any], address: str, text: str, received: str
) -> None:
    """Let a customer reply to a message that they received."""
    written = {
        "account": channel["accounts"][0]["account"],
        "from": address,
        "name": "Bruno",
        "text": text,
        "reply_to": received,
    }
    await provider.post("messages", written)


def require_no_other(status: dict[str, Any], receipts: dict[str, list[str]]) -> None:
    """Raise DemoFailed when a delivery shows what its channel's provider never tells."""
    for delivery in status["deliveries"]:
        told = {event["status"] for event in delivery["history"]} - {"PENDING"}
        if told != set(receipts[delivery["channel"]]):
            raise DemoFailed(f"{delivery['channel']} shows {told} instead of its receipts.")


async def reached(api: Api, message_id: str, wanted: str) -> dict[str, Any] | None:
    """Return the status of a message once it is the wanted one."""
    _, body, _ = await api.call("GET", f"/messages/{message_id}/status")
    found: dict[str, Any] = body
    return found if found["status"] == wanted else None


async def all_reached(api: Api, message_id: str, wanted: dict[str, str]) -> dict[str, Any] | None:
    """Return the status of a message once each of its deliveries has its channel's wanted one."""
    _, body, _ = await api.call("GET", f"/messages/{message_id}/status")
    found: dict[str, Any] = body
    arrived = all(one["status"] == wanted[one["channel"]] for one in found["deliveries"])
    return found if arrived else None


async def inbound(api: Api, conversation: str, text: str) -> dict[str, Any] | None:
    """Return the message with this text from the conversation's history."""
    _, body, _ = await api.call("GET", f"/conversations/{conversation}/messages?order=desc")
    return next((item for item in body["items"] if item["content"] == text), None)


def find(api: Api, conversation: str, text: str) -> Callable[[], Awaitable[dict[str, Any] | None]]:
    """Return a look for a message with this text."""
    return lambda: inbound(api, conversation, text)


async def received_once(provider: Provider, address: str, text: str) -> str:
    """Return the provider's id of a text; DemoFailed unless its receipts show it exactly once."""
    kept = [r for r in await provider.receipts(to=address) if r.kept and r.text == text]
    if len(kept) != 1:
        raise DemoFailed(f"The provider received the message {len(kept)} times instead of once.")
    return kept[0].provider_id or ""


def show(direction: str, text: str, status: dict[str, Any]) -> None:
    """Print a message and how its delivery went on."""
    console.print(f"  {direction}  {text}")
    for delivery in status["deliveries"]:
        for event in delivery["history"]:
            console.print(f"    {event['observed_at']}  {event['status']}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
