"""Obtaining the parts that are missing."""

import time
from collections.abc import Iterable
from pathlib import Path

from scripts.tools import cache, debian, plan, preflight
from scripts.tools.command import CommandFailed, say, sentence
from scripts.tools.parts import MissingTool, Part, Tool, Variant
from scripts.tools.search import find
from scripts.tools.table import WANTED


def ensure(names: Iterable[str] = WANTED, *, install: bool = True) -> dict[str, Tool]:
    """Return the parts and those they need, by name, after installing what is missing.

    Raises MissingTool when that cannot work, if possible before anything is touched.
    """
    wanted = tuple(names)
    missing = plan.make(wanted)
    if missing:
        preflight.announce(missing)
        preflight.check(missing, install=install)
        try:
            _carry_out(missing)
        except CommandFailed as failure:
            raise MissingTool(str(failure)) from failure
        except OSError as error:
            raise MissingTool(sentence(error)) from error
    return {part.name: find(part.name) for part in plan.closure(wanted)}


def _carry_out(missing: plan.Plan) -> None:
    started = time.monotonic()
    if missing.packages:
        say(f"Debian packages: {' '.join(missing.packages)}")
        debian.install(missing.packages)
        say(f"Debian packages: done in {time.monotonic() - started:.0f} s")
    for step in missing.steps:
        _obtain(step.part)
    say(f"all parts are there after {time.monotonic() - started:.0f} s")


def _obtain(part: Part) -> None:
    """Install the part by the first way that works."""
    *better, last = plan.usable(part)
    for variant in better:
        try:
            _install(part, variant)
        except CommandFailed as failure:
            say(f"{failure}; now the next way")
        else:
            return
    _install(part, last)


def _install(part: Part, variant: Variant) -> None:
    started = time.monotonic()
    say(f"{part.name}: installing {variant.name} {variant.version}")
    tools: dict[str, Path] = {}
    for name, tool in ensure(variant.needs).items():
        if tool.path is not None:
            tools[name] = tool.path
    cache.install(cache.folder(variant.name, variant.version) / variant.path, variant.fill, tools)
    say(f"{part.name}: done in {time.monotonic() - started:.0f} s")
