"""Deciding what must be installed, and in which order, before anything is touched."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from scripts.tools import debian
from scripts.tools.debian import Package
from scripts.tools.parts import MissingTool, Part, Variant
from scripts.tools.search import look, part_named

PACKAGES_S, PACKAGES_MB = 30, 700


@dataclass(frozen=True, slots=True)
class Step:
    """One part that goes into the cache."""

    part: Part
    variant: Variant


@dataclass(slots=True)
class Plan:
    """What is missing: the steps in order, and the Debian packages that come before them."""

    steps: list[Step] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> int:
        """About how long it takes."""
        packages = PACKAGES_S if self.packages else 0
        return packages + sum(step.variant.seconds for step in self.steps)

    @property
    def space_mb(self) -> int:
        """How much of the disk it may use while it runs."""
        packages = PACKAGES_MB if self.packages else 0
        return packages + sum(step.variant.space_mb for step in self.steps)

    def __bool__(self) -> bool:
        return bool(self.steps or self.packages)


def make(names: Iterable[str]) -> Plan:
    """Plan for the parts, and for everything they need, that are not there yet."""
    plan = Plan()
    for part in closure(names):
        _add(plan, part)
    return plan


def closure(names: Iterable[str]) -> list[Part]:
    """Return the parts and those they cannot run without, each once; an address needs nothing."""
    parts: dict[str, Part] = {}
    for name in names:
        part = part_named(name)
        tool = look(name)
        by_address = tool is not None and tool.source == "address"
        for needed in () if by_address else closure(part.needs):
            parts[needed.name] = needed
        parts[name] = part
    return list(parts.values())


def _add(plan: Plan, part: Part) -> None:
    if look(part.name) is not None or any(step.part is part for step in plan.steps):
        return
    if part.package:
        plan.packages.append(part.package)
        return
    variant = next(iter(usable(part)), None)
    if variant is None:
        raise MissingTool(f"{part.name} is missing: put {part.accepted} of it on PATH")
    for name in variant.needs:
        _add(plan, part_named(name))
    _add_packages(plan, variant.packages)
    plan.steps.append(Step(part, variant))


def usable(part: Part) -> list[Variant]:
    """Return the ways to install a part for which all that they need can be had."""
    return [v for v in part.variants if all(map(_obtainable, v.needs))]


def _obtainable(name: str) -> bool:
    part = part_named(name)
    return bool(part.package or usable(part)) or look(name) is not None


def _add_packages(plan: Plan, packages: Iterable[Package]) -> None:
    names = debian.missing(packages)
    plan.packages.extend(name for name in names if name not in plan.packages)
