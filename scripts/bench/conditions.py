"""What the platform runs with, and whether that may be measured at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.adapters.platform import Platform
from chaos.adapters.toxiproxy import NoProxy
from scripts.bench.figures import Conditions

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
    jobs = [f"{side}-{name.lower()}" for name in chosen for side in ("connector", "provider")]
    require_no_limits({job: await _profile(platform, job) for job in jobs})
    gateway = await _environment(platform, "api-gateway")
    return Conditions(
        instance=os.environ.get("CHAT4ALL_INSTANCE", ""),
        channels=chosen,
        links="direct",
        quota_profile=HIGH_QUOTA,
        real_quotas={name: in_words(await _quota(platform, name)) for name in chosen},
        mongodb=mongodb,
        release=Path(gateway.get("PYTHONPATH", "")).name,
        conversations=conversations,
    )


def require_no_limits(profiles: Mapping[str, str]) -> None:
    """Raise Unfit unless no job of a channel holds messages back; take each one's profile."""
    real = [job for job, profile in profiles.items() if profile != HIGH_QUOTA]
    if real:
        raise Unfit(
            f"The provider's real limits, not {HIGH_QUOTA}, are kept by: {', '.join(real)}."
        )


def in_words(quota: Mapping[str, Any] | None) -> str:
    """Return what a channel's real provider takes, as the API tells it."""
    if quota is None:
        return "not told by this release"
    return (
        f"{quota['account_per_s']:g}/s per account, {1 / quota['recipient_interval_s']:.3g}/s per "
        f"recipient (bursts {quota['account_burst']}, {quota['recipient_burst']})"
    )


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


async def _quota(platform: Platform, channel: str) -> Mapping[str, Any] | None:
    _, shown, _ = await platform.api.call("GET", f"/channels/{channel}")
    quota: Mapping[str, Any] | None = shown.get("quota")
    return quota


async def _environment(platform: Platform, job: str) -> dict[str, str]:
    found = await _nomad(platform, f"job/{job}")
    environment: dict[str, str] = found["TaskGroups"][0]["Tasks"][0]["Env"] or {}
    return environment


async def _nomad(platform: Platform, path: str) -> Any:
    async with platform.session.get(f"{platform.nomad.url}/v1/{path}") as answer:
        answer.raise_for_status()
        return await answer.json()
