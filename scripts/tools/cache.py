"""The user's cache: one folder for each part and version, complete or absent."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.tools.command import CommandFailed, say


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where one installation happens, and with what."""

    label: str
    target: Path
    """What is filled here becomes the part's folder."""
    scratch: Path
    """Survives an interruption, so that a long build goes on where it stopped."""
    log: Path
    tools: Mapping[str, Path]
    """The parts that this one is made with."""


def root() -> Path:
    """Return the folder that all clones of this user share."""
    own = os.environ.get("CHAT4ALL_CACHE")
    if own:
        return Path(own).expanduser().absolute() / "tools"
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser().absolute() / "chat4all" / "tools"


def folder(name: str, version: str) -> Path:
    """Return where a part of this version lives once it is complete."""
    return root() / f"{name}-{version}"


def log_of(name: str) -> Path:
    """Return a fresh log for one installation."""
    log = root() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    return log


def install(path: Path, fill: Callable[[Workplace], None], tools: Mapping[str, Path]) -> None:
    """Make `path` and all of its folder in the cache: in a sibling first, renamed when complete."""
    home = root() / path.relative_to(root()).parts[0]
    with _locked(home.name):
        if path.exists():
            return
        work = Workplace(
            label=home.name,
            target=home.with_name(f"{home.name}.partial"),
            scratch=home.with_name(f"{home.name}.scratch"),
            log=log_of(home.name),
            tools=tools,
        )
        _remove(work.target, home)
        work.target.mkdir()
        work.scratch.mkdir(exist_ok=True)
        fill(work)
        if not (work.target / path.relative_to(home)).exists():
            raise CommandFailed(f"{work.label}: no {path.name} came out: read {work.log}")
        work.target.rename(home)
        _remove(work.scratch)


def _remove(*folders: Path) -> None:
    for path in folders:
        if path.exists():
            shutil.rmtree(path)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the part's lock; it ends with its process, so nothing stale can block."""
    locks = root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  {name}: another process is installing it, waiting for it to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
