"""Scenarios: small files that say what is broken, under which load, and what was promised."""

import typing
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from chaos import units, variants
from chaos.checkers import must_happen
from chaos.faults import AnyFault
from chaos.units import PerSecond, Seconds
from services.contracts.timers import HEARTBEAT_MS, REBALANCE_TIMEOUT_MS, SESSION_TIMEOUT_MS

FOLDER = Path(__file__).with_name("scenarios")
SUFFIX = ".toml"


class BadScenario(Exception):  # noqa: N818 - a sentence for the person who wrote it
    """A scenario that does not exist or cannot be read."""


class Steady(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds before anything is broken, and for how long it must."""

    hold: Seconds = Seconds(3)
    delivery_p99: Seconds = Seconds(2)


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The open-loop load; `tail` is how long it goes on after everything has recovered."""

    rate: PerSecond = PerSecond(200)
    conversations: int = 200
    channels: int = 1
    tail: Seconds = Seconds(1)


class Deadlines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Upper bounds of the phases."""

    steady: Seconds = Seconds(30)
    inject: Seconds = Seconds(30)
    recover: Seconds = Seconds(60)
    drain: Seconds = Seconds(60)


class Repeats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a scenario is run, and in a smoke test."""

    default: int = 1
    smoke: int = 1


class Promise(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was promised; what is not named is measured and not judged."""

    detection: Seconds | None = None
    rebalance: Seconds | None = None
    failover: Seconds | None = None
    unavailability: Seconds | None = None
    lost: int | None = 0
    doubled: int | None = 0
    reordered: int | None = 0
    status_back: int | None = 0
    manual_steps: int | None = 0
    survivors: int | None = None


class Goal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What we want of ourselves beyond the promise, over all repeats."""

    failover_median: Seconds | None = None
    failover_worst: Seconds | None = None
    rebalance_worst: Seconds | None = None


class Guards(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must not be exceeded."""

    min_survivors: int = 1
    max_duration: Seconds = Seconds(300)


class Timers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the platform is configured with, for the prediction beside the measurement."""

    session: Seconds = Seconds(SESSION_TIMEOUT_MS / 1000)
    heartbeat: Seconds = Seconds(HEARTBEAT_MS / 1000)
    rebalance: Seconds = Seconds(REBALANCE_TIMEOUT_MS / 1000)


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario file says."""

    title: str
    hypothesis: str
    tier: int
    smoke: bool = False
    steady: Steady = Steady()
    workload: Load = Load()
    faults: list[AnyFault] = []
    deadlines: Deadlines = Deadlines()
    repeats: Repeats = Repeats()
    must_happen: list[str] = []
    promise: Promise = Promise()
    goal: Goal = Goal()
    guards: Guards = Guards()
    timers: Timers = Timers()
    name: str = ""

    @property
    def jobs(self) -> list[str]:
        """The jobs that it kills, stops or pauses."""
        return sorted({str(getattr(f, "job", "")) for f in self.faults} - {""})


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of all scenarios; a name with an underscore is only extended by others."""
    found: set[str] = set()
    for path in folder.glob(f"[!_]*{SUFFIX}"):
        try:
            found |= variants.read(path).keys()
        except ValueError:
            # Whoever names it is told what is wrong with it.
            found.add(path.stem)
    return sorted(found)


def load(name: str, folder: Path = FOLDER) -> Scenario:
    """Read a scenario with all it extends; raise BadScenario with a sentence.

    It is one of the folder's by name, or a file anywhere by its path, which ends with .toml.
    """
    if name.endswith(SUFFIX):
        folder, name = Path(name).parent, Path(name).stem
    merged = _merged(name, folder, seen=())
    try:
        _known(merged, Scenario, name)
        found = msgspec.convert({**merged, "name": name}, Scenario, dec_hook=units.read)
        for condition in found.must_happen:
            must_happen.parse(condition)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadScenario(f"{name}: {error}") from error
    return found


def load_all(folder: Path = FOLDER) -> list[Scenario]:
    """Read every scenario."""
    return [load(name, folder) for name in names(folder)]


def _merged(name: str, folder: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise BadScenario(f"{name} extends itself")
    own = _own(name, folder)
    if own is None and seen:
        own = _own(name, FOLDER)
    if own is None:
        known = {*names(folder), *(names() if seen else ())}
        raise BadScenario(f"there is no scenario {name!r}{nearest(name, known)}")
    base = own.pop("extends", None)
    return own if base is None else _over(_merged(str(base), folder, (*seen, name)), own)


def _own(name: str, folder: Path) -> dict[str, Any] | None:
    """Return what a scenario's own file says, or else one that stands for several; None: none."""
    alone = folder / f"{name}{SUFFIX}"
    shared = [p for p in sorted(folder.glob(f"*{SUFFIX}")) if name.startswith(f"{p.stem}-")]
    for path in (alone, *shared) if alone.exists() else shared:
        try:
            if (own := variants.read(path).get(name)) is not None:
                return own
        except ValueError as error:
            raise BadScenario(f"{path.stem}: {error}") from error
    return None


def _over(base: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a scenario over the one it extends: tables are merged, all else is replaced.

    An empty table takes away what was there.
    """
    for key, value in own.items():
        below = base.get(key)
        both = isinstance(below, dict) and isinstance(value, dict) and value
        base[key] = _over(below, value) if both and below is not None else value
    return base


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to say behind a name that is unknown."""
    every = sorted(known)
    if close := get_close_matches(name, every, n=1):
        return f": did you mean {close[0]}?"
    longer = [each for each in every if each.startswith(name)]
    return f": there are {', '.join(longer or every)}"


def _known(values: Mapping[str, Any], kind: type, where: str) -> None:
    """Refuse keys that do not exist, with the nearest one that does."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    tag = getattr(kind, "__struct_config__").tag_field  # noqa: B009 - no stub has it
    for key, value in values.items():
        if key == tag:
            continue
        if key not in fields:
            raise ValueError(f"{where} has no {key!r}{nearest(key, fields)}")
        if isinstance(value, dict) and isinstance(fields[key], type):
            _known(value, fields[key], f"{where}.{key}")
    for number, fault in enumerate(values.get("faults", ()) if kind is Scenario else (), 1):
        kinds = {cls.__struct_config__.tag: cls for cls in typing.get_args(AnyFault)}
        found = fault.get("kind")
        if found not in kinds:
            raise ValueError(f"there is no fault {found!r}{nearest(str(found), kinds)}")
        _known(fault, kinds[found], f"fault {number} ({found})")
