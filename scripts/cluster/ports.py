"""Who listens on a port: read from the kernel, so that a taken port can be explained."""

import re
import socket
from collections.abc import Mapping
from pathlib import Path

from scripts.cluster.instance import ROOT, ClusterError, Instance

_LISTENS = "0A"
_AGENT = re.compile(r"\S*/(nomad|consul)\0")
_FOLDER = re.compile(r"(/[^\0=]*/\.local/(?:dev|test))/")
_TASKS_FOLDER = re.compile(r"NOMAD_ALLOC_DIR=" + _FOLDER.pattern)
_RUNS_IN = re.compile(_FOLDER.pattern + "data/nomad/alloc/")


def taken(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def require_free(instance: Instance, more: Mapping[str, int] | None = None) -> None:
    """Raise ClusterError, naming owner and remedy, when a port of the instance is taken.

    What belongs to this instance already may keep its ports.
    """
    for part, port in {**instance.ports, **(more or {})}.items():
        if not taken(port):
            continue
        pid = _listener(port)
        if pid is None or _folder_of(pid) != instance.folder:
            raise ClusterError(f"Port {port} ({part}) is taken by {_owner(pid)}")


def processes_of(instance: Instance) -> list[int]:
    """Return the agents, helpers and tasks of an instance, however they came to be orphaned."""
    every = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid in every if _folder_of(pid) == instance.folder]


def _owner(pid: int | None) -> str:
    if pid is None:
        return "a process that we may not see: find it with `ss -ltnp` and stop it."
    folder = _folder_of(pid)
    if folder is None:
        words = _read(pid, "cmdline").replace("\0", " ").strip()
        return f"process {pid} ({words[:80]}): stop it, or stop what started it."
    clone, name = folder.parent.parent, folder.name
    where = "this clone" if clone == ROOT else str(clone)
    return (
        f"the instance {name} of {where}: stop it with `cd {clone} && ./scripts/just down {name}`."
    )


def _folder_of(pid: int) -> Path | None:
    """Return the instance's folder that a process belongs to; None when it is no part of one.

    An agent or a helper of Nomad's names the folder in its command, a task in NOMAD_ALLOC_DIR,
    or, when it writes over its environment as Redis does, by where it runs.
    """
    command = _read(pid, "cmdline")
    found = _FOLDER.search(command) if _AGENT.match(command) else None
    found = found or _TASKS_FOLDER.search(_read(pid, "environ"))
    found = found or _RUNS_IN.match(_link(pid, "cwd"))
    return Path(found[1]) if found else None


def _listener(port: int) -> int | None:
    """Return the process that listens on a port, as far as we may see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(str(link.readlink()) in inodes for link in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:
            continue
    return None


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _link(pid: int, name: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/{name}").readlink())
    except OSError:
        return ""
