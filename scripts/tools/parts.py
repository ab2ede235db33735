"""What a part is: how it is recognised, and the ways to install it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scripts.tools.cache import Workplace
from scripts.tools.debian import Package
from scripts.tools.versions import Accepted

Source = Literal["PATH", "cache", "debian", "address"]


class MissingTool(Exception):  # noqa: N818 - a sentence for the person who needs the part
    """A part is not there; the message is one sentence with the command that fixes it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A part that can be used now."""

    name: str
    version: str
    source: Source
    path: Path | None
    """The executable; of kafka the folder of jars, of postgres the folder of executables."""
    address: str | None = None
    flavour: str = ""
    """Which implementation it is, where there are several."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to install a part into the cache."""

    name: str
    version: str
    path: str
    """What the tool's path is, inside the folder of the cache."""
    fill: Callable[[Workplace], None]
    seconds: int
    """How long it took on two cores from empty caches."""
    space_mb: int
    """What must be free on the disk for it, the caches of its compiler included."""
    needs: tuple[str, ...] = ()
    """The parts it is made with."""
    packages: tuple[Package, ...] = ()
    """The Debian packages it is made with."""
    note: str = ""
    """What a person should know before using it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the platform."""

    name: str
    program: str
    """What is looked for on PATH."""
    accepted: Accepted
    locate: "Callable[[Part], Tool | None]"
    """Finds what the machine itself has."""
    variants: tuple[Variant, ...] = ()
    """The ways to install it, best first."""
    package: str = ""
    """The Debian package that is this part."""
    address_variable: str | None = None
    needs: tuple[str, ...] = ()
    """The parts it cannot run without."""
