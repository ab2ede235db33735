"""Finding what the machine itself has, in a version that was tested."""

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from scripts.tools import cache, probe
from scripts.tools.parts import Part, Tool

DEBIAN = Path("/usr/lib")
KAFKA_JAR = re.compile(r"kafka_2\.13-([\d.]+)\.jar")


def on_path(question: str, debian: str = "") -> Callable[[Part], Tool | None]:
    """Return a search for a part's program on PATH, then where Debian keeps several versions.

    The question makes the program tell its version.
    """

    def locate(part: Part) -> Tool | None:
        path = _which(part.program)
        tool = _asked(part, path, question) if path else None
        if tool is not None or not debian:
            return tool
        others = (_asked(part, path, question) for path in _newest_first(DEBIAN.glob(debian)))
        tool = next(filter(None, others), None)
        return replace(tool, source="debian") if tool else None

    return locate


def folder_of(search: Callable[[Part], Tool | None]) -> Callable[[Part], Tool | None]:
    """Return a search for the folder of a program, where a part is several programs."""

    def locate(part: Part) -> Tool | None:
        tool = search(part)
        return replace(tool, path=tool.path.resolve().parent) if tool and tool.path else None

    return locate


def cargo(part: Part) -> Tool | None:
    """Look for Rust on PATH; a rustup proxy is asked each time, its toolchain changes under it."""
    path = _which(part.program)
    return _tool(part, path, probe.ask(path, "--version")) if path else None


def kafka(part: Part) -> Tool | None:
    """Look for a Kafka distribution through its start script on PATH."""
    script = _which(part.program)
    if script is None:
        return None
    libs = script.resolve().parent.parent / "libs"
    jars = (KAFKA_JAR.fullmatch(jar.name) for jar in libs.glob("kafka_2.13-*.jar"))
    found = (_tool(part, libs, jar.group(1)) for jar in jars if jar)
    return next(filter(None, found), None)


def _which(program: str) -> Path | None:
    """Look on PATH; what lies in our own cache is not the machine's."""
    found = shutil.which(program)
    if found is None or cache.root() in Path(found).parents:
        return None
    return Path(found)


def _asked(part: Part, path: Path, question: str) -> Tool | None:
    return _tool(part, path, probe.remembered(path, question))


def _tool(part: Part, path: Path, version: str | None) -> Tool | None:
    if version is None or version not in part.accepted:
        return None
    return Tool(part.name, version, "PATH", path, flavour=part.program)


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    def numbers(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", str(path))]

    return sorted(paths, key=numbers, reverse=True)
