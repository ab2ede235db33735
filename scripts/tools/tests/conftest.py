"""A machine that has nothing: an empty cache, an empty PATH, no addresses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.tools import cache, locate
from scripts.tools.table import PARTS

Program = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see or touch the parts of the person who runs it."""
    monkeypatch.setenv("CHAT4ALL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(locate, "DEBIAN", tmp_path / "lib")
    for part in PARTS.values():
        if part.address_variable:
            monkeypatch.delenv(part.address_variable, raising=False)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Put an executable on PATH that tells a version."""

    def make(name: str, says: str) -> Path:
        path = tmp_path / "path" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def cached() -> Callable[[str, int], Path]:
    """Put one variant of a part into the cache."""

    def make(name: str, variant: int) -> Path:
        made = PARTS[name].variants[variant]
        path = cache.folder(made.name, made.version) / made.path
        path.parent.mkdir(parents=True)
        path.touch()
        return path

    return make
