"""Finding a part: an address, the machine's own, the cache, in this order."""

import os
import re

from scripts.tools import cache
from scripts.tools.parts import MissingTool, Part, Tool
from scripts.tools.table import PARTS

_ADDRESS = re.compile(r"[^\s/]+:\d{1,5}")


def find(name: str) -> Tool:
    """Return the part that is there; raise MissingTool with the command that installs it."""
    tool = look(name)
    if tool is None:
        raise MissingTool(f"{name} is missing: run `{command(name)}` in the clone")
    return tool


def look(name: str) -> Tool | None:
    """Return the part that is there, or None."""
    part = part_named(name)
    return _given(part) or part.locate(part) or _cached(part)


def part_named(name: str) -> Part:
    """Return the part of that name; raise MissingTool when there is none."""
    if name not in PARTS:
        raise MissingTool(f"there is no part {name}: choose from {', '.join(PARTS)}")
    return PARTS[name]


def command(name: str) -> str:
    """Return what a person types to install a part."""
    return f"python3 -m scripts.tools ensure {name}".rstrip()


def _given(part: Part) -> Tool | None:
    variable = part.address_variable
    address = os.environ.get(variable, "") if variable else ""
    if not address:
        return None
    if not _ADDRESS.fullmatch(address):
        raise MissingTool(f"{variable} is not an address: set it to host:port or unset it")
    return Tool(part.name, "", "address", None, address=address, flavour="address")


def _cached(part: Part) -> Tool | None:
    for variant in part.variants:
        path = cache.folder(variant.name, variant.version) / variant.path
        if path.exists():
            return Tool(part.name, variant.version, "cache", path, flavour=variant.name)
    return None
