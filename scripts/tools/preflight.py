"""What is looked at before anything is installed: the machine, the disk, the fast route."""

import os
import platform
import shutil
from pathlib import Path

from scripts.tools import cache, debian
from scripts.tools.command import say
from scripts.tools.parts import MissingTool
from scripts.tools.plan import Plan
from scripts.tools.search import command

MEMORY_GB_MIN = 6
SLOW_S = 60
MB, GB = 10**6, 10**9


def announce(plan: Plan) -> None:
    """Say what is about to happen, how long it takes and what would be faster."""
    say(_machine())
    if plan.packages:
        say(f"Debian packages to install: {' '.join(plan.packages)}")
    for step in plan.steps:
        variant = step.variant
        note = f" ({variant.note})" if variant.note else ""
        what = f"{step.part.name:8} {variant.name} {variant.version}"
        say(f"to install: {what}, {_time(variant.seconds)}{note}")
    say(f"together {_time(plan.seconds)} and up to {_size(plan.space_mb)} of disk")
    slow = [step.part for step in plan.steps if step.variant.seconds > SLOW_S]
    if slow:
        wanted = ", ".join(f"{part.program} ({part.accepted})" for part in slow)
        say(f"faster: have {wanted} on PATH, then nothing is built")


def check(plan: Plan, *, install: bool) -> None:
    """Raise MissingTool, before anything is touched, when the plan cannot be carried out."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise MissingTool("this runs on Linux x86-64 only: use a Debian or Ubuntu machine")
    _check_disk(plan)
    if plan.packages and shutil.which("apt-get") is None:
        raise MissingTool(
            f"this is neither Debian nor Ubuntu: install what Debian calls"
            f" {' '.join(plan.packages)} and run the same command again"
        )
    if not install or (plan.packages and os.geteuid() != 0):
        raise MissingTool(_by_hand(plan))


def _by_hand(plan: Plan) -> str:
    lines = [*(debian.commands(plan.packages) if plan.packages else ())]
    if plan.steps:
        lines.append(command(""))
    return "parts are missing: paste this in the clone\n\n" + " &&\n".join(lines) + "\n"


def _check_disk(plan: Plan) -> None:
    """Both disks matter: the parts' own, and the home that compilers keep their caches in."""
    for place in (cache.root(), Path.home()):
        free_mb = _free_mb(place)
        if free_mb < plan.space_mb:
            raise MissingTool(
                f"the disk of {place} has {_size(free_mb)} free and {_size(plan.space_mb)} are"
                " needed: free space, or set CHAT4ALL_CACHE (and for compilers HOME) to a folder"
                " on a larger disk"
            )


def _machine() -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    free = _size(_free_mb(cache.root()))
    little = "" if memory_gb >= MEMORY_GB_MIN else f" (little: {MEMORY_GB_MIN} GB are comfortable)"
    return (
        f"{_system()}, {platform.machine()}, Python {platform.python_version()},"
        f" {'root' if os.geteuid() == 0 else 'not root'}, {os.cpu_count()} processors,"
        f" {memory_gb:.0f} GB memory{little}, {free} free for {cache.root()}"
    )


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()


def _free_mb(path: Path) -> int:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free // MB


def _size(megabytes: int) -> str:
    return f"{megabytes} MB" if megabytes < GB // MB else f"{megabytes * MB / GB:.1f} GB"


def _time(seconds: int) -> str:
    return f"about {seconds} s" if seconds < SLOW_S else f"about {round(seconds / 60)} min"
