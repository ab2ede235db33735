"""What the platform runs with, and whether that may be measured at all."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from chaos.adapters.platform import Platform
from chaos.adapters.toxiproxy import NoProxy
from scripts.bench.figures import Conditions
from services.connectors import registry
from services.contracts.channels import Limits

HIGH_QUOTA = "high-quota"
DEMO_MONGODB = "wheel"


class Unfit(Exception):  # noqa: N818 - a refusal
    """The platform runs in a way whose figures would say nothing."""


async def look(platform: Platform, wanted: list[str], conversations: int) -> Conditions:
    """Return the conditions; raise Unfit when figures under them would mislead."""
    channels = await platform.channels()
    if missing := sorted(set(wanted) - set(channels)):
        raise Unfit(f"{missing[0]} takes no messages; there are: {', '.join(channels)}.")
    chosen = wanted or channels
    if not chosen:
        raise Unfit("No channel takes messages: look at `just status`.")
    mongodb = os.environ.get("NOMAD_VAR_mongodb_flavour", "")  # noqa: SIM112 - Nomad's own spelling
    if DEMO_MONGODB in mongodb:
        raise Unfit("MongoDB is the stand-in for demonstrations, which is 5-10 times slower.")
    await _require_direct(platform)
    profiles = {await _profile(platform, f"connector-{name.lower()}") for name in chosen}
    if profiles != {HIGH_QUOTA}:
        raise Unfit(f"A connector keeps the provider's real limits, not {HIGH_QUOTA}.")
    gateway = await _environment(platform, "api-gateway")
    return Conditions(
        instance=os.environ.get("CHAT4ALL_INSTANCE", ""),
        channels=chosen,
        links="direct",
        quota_profile=HIGH_QUOTA,
        real_quotas={name: real_quota(name.lower()) for name in chosen},
        mongodb=mongodb,
        release=Path(gateway.get("PYTHONPATH", "")).name,
        conversations=conversations,
    )


def real_quota(channel: str) -> str:
    """Return what a channel's real provider takes, in words."""
    module = import_module(f"{registry.__package__}.{channel}.connector")
    for found in vars(module).values():
        limits = getattr(found, "limits", None)
        if isinstance(limits, Limits):
            recipient = 1 / limits.recipient_interval_s
            return (
                f"{limits.account_per_s:g}/s per account, {recipient:.3g}/s per recipient "
                f"(bursts {limits.account_burst}, {limits.recipient_burst})"
            )
    return "not declared"


async def jobs_of_allocations(platform: Platform) -> dict[str, str]:
    """Return the job of each running allocation."""
    found = await _nomad(platform, "allocations")
    return {a["ID"]: a["JobID"] for a in found if a["ClientStatus"] == "running"}


async def _require_direct(platform: Platform) -> None:
    try:
        await platform.toxiproxy()
    except NoProxy:
        return
    raise Unfit("Links run through proxies: stop it and start it with `up --links direct`.")


async def _profile(platform: Platform, job: str) -> str:
    return (await _environment(platform, job)).get("QUOTA_PROFILE", "")


async def _environment(platform: Platform, job: str) -> dict[str, str]:
    found = await _nomad(platform, f"job/{job}")
    environment: dict[str, str] = found["TaskGroups"][0]["Tasks"][0]["Env"] or {}
    return environment


async def _nomad(platform: Platform, path: str) -> Any:
    async with platform.session.get(f"{platform.nomad.url}/v1/{path}") as answer:
        answer.raise_for_status()
        return await answer.json()
