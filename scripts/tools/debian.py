"""Packages of Debian and Ubuntu: which are missing, and installing them as root."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from scripts.tools import cache
from scripts.tools.command import run

NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/chat4all.conf")
NO_CLUSTER_TEXT = "create_main_cluster = false\n"
SERVERS = ("redis-server", "prometheus")
"""Packages that would run a server of their own, now and at every start of the machine."""
UNITS = Path("/etc/systemd/system")
NO_SERVICES = Path("/usr/sbin/policy-rc.d")
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=120")
INSTALL = ("install", "-y", "--no-install-recommends")


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package and the sign that it is not needed."""

    name: str
    present: Callable[[], bool]


def program(package: str, executable: str) -> Package:
    """Describe a package that is needed where an executable is not on PATH."""
    return Package(package, lambda: shutil.which(executable) is not None)


def missing(packages: Iterable[Package]) -> tuple[str, ...]:
    """Return the names of the packages that must be installed, each once."""
    return tuple(dict.fromkeys(package.name for package in packages if not package.present()))


def commands(names: Sequence[str]) -> list[str]:
    """Return what a person types to install packages without a server starting by itself."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    lines = [f"{sudo}apt-get update", f"{sudo}apt-get {' '.join((*INSTALL, *names))}"]
    if "postgresql" in names:
        lines[1:1] = [
            f"{sudo}mkdir -p {NO_CLUSTER.parent}",
            f"echo '{NO_CLUSTER_TEXT.strip()}' | {sudo}tee {NO_CLUSTER}",
        ]
    if masks := _masks(names):
        links = [f"{sudo}ln -sf /dev/null {unit}" for unit in masks]
        lines[1:1] = [f"{sudo}mkdir -p {UNITS}", *links]
    return lines


def install(names: Sequence[str]) -> None:
    """Install packages as root; no service of the machine is started, stopped or created.

    The servers of packages stay masked, so that none takes its port when the machine starts.
    """
    log = cache.log_of("debian")
    # Ubuntu's needrestart would restart services whose libraries are new.
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    for unit in _masks(names):
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.symlink_to("/dev/null")
    with _no_services(), _no_cluster() if "postgresql" in names else nullcontext():
        run("Debian packages", [*APT, "update"], log, env=quiet)
        run("Debian packages", [*APT, *INSTALL, *names], log, env=quiet)


def _masks(names: Sequence[str]) -> list[Path]:
    """Return what has to lead nowhere, so that the servers of packages do not start."""
    units = [UNITS / f"{name}.service" for name in SERVERS if name in names]
    return [unit for unit in units if not (unit.is_symlink() or unit.exists())]


@contextmanager
def _no_cluster() -> Iterator[None]:
    """Keep PostgreSQL's package from creating a database of its own."""
    NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_CLUSTER.write_text(NO_CLUSTER_TEXT)
    try:
        yield
    finally:
        NO_CLUSTER.unlink()


@contextmanager
def _no_services() -> Iterator[None]:
    """Forbid packages to start services while this process lives; respect an existing policy."""
    if NO_SERVICES.exists():
        yield
        return
    NO_SERVICES.write_text(f"#!/bin/sh\n[ ! -d /proc/{os.getpid()} ] || exit 101\n")
    NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        NO_SERVICES.unlink()
