"""What services run from: an environment for each lock file, a snapshot for each source tree."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from scripts.cluster.instance import ROOT, ClusterError, Instance
from scripts.tools import cache, find
from scripts.tools.command import say

SHARED = ("contracts", "runtime", "__init__.py")
_HASH_LENGTH = 16


def environment() -> Path:
    """Return the Python of an environment with exactly the locked dependencies of the services."""
    lock = (ROOT / "uv.lock").read_bytes() + sys.version.encode()
    folder = cache.root().parent / "envs" / hashlib.sha256(lock).hexdigest()[:_HASH_LENGTH]
    ready = folder / ".ready"
    if not ready.exists():
        say("installing the services' dependencies")
        result = subprocess.run(
            [str(find("uv").path), "sync", "--frozen", "--no-default-groups", "--quiet"],
            cwd=ROOT,
            env={
                **os.environ,
                "UV_PROJECT_ENVIRONMENT": str(folder),
                "UV_PYTHON": sys.executable,
                "UV_PYTHON_DOWNLOADS": "never",
                "UV_COMPILE_BYTECODE": "1",
            },
            check=False,
        )
        if result.returncode:
            raise ClusterError("uv could not install the locked dependencies: see its lines above.")
        ready.touch()
    return folder / "bin" / "python"


def snapshot(instance: Instance) -> Path:
    """Copy the services as they are now into a folder that never changes, named by its content."""
    files = sorted(_sources(ROOT / "services"))
    releases = instance.folder / "releases"
    target = releases / digest(ROOT / "services", files)
    if not target.exists():
        making = releases / f".{target.name}.partial"
        shutil.rmtree(making, ignore_errors=True)
        for file in files:
            copy = making / "services" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "services" / file, copy)
        making.rename(target)
    return target


def digest(services: Path, files: Iterable[Path]) -> str:
    """Return a hash of files, of their names and contents."""
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(f"{file}\0".encode() + (services / file).read_bytes() + b"\0")
    return found.hexdigest()[:_HASH_LENGTH]


def same_for(parts: tuple[str, ...], old: Path, new: Path) -> bool:
    """Tell whether two releases hold the same for a job that uses these parts of the services."""
    return _part_digest(parts, old) == _part_digest(parts, new)


def prune(instance: Instance, used: set[Path]) -> None:
    """Remove the releases that no job uses."""
    for folder in (instance.folder / "releases").iterdir():
        if folder not in used:
            shutil.rmtree(folder)


def _part_digest(parts: tuple[str, ...], release: Path) -> str:
    services = release / "services"
    files: list[Path] = []
    for part in (*SHARED, *parts):
        path = services / part
        files += [path.relative_to(services)] if path.is_file() else []
        files += [file.relative_to(services) for file in path.rglob("*") if file.is_file()]
    return digest(services, [file for file in files if "__pycache__" not in file.parts])


def _sources(services: Path) -> Iterable[Path]:
    """Yield the files that a service may need at run time, relative to the package."""
    for path in services.rglob("*"):
        file = path.relative_to(services)
        aside = {"tests", "__pycache__", "conftest.py"} & set(file.parts)
        if path.is_file() and not aside:
            yield file
