"""A long command shows that it lives, and names its log when it fails."""

from pathlib import Path

import pytest

from scripts.tools import command
from scripts.tools.command import CommandFailed, run


def test_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a command runs, the end of its output is told again and again."""
    monkeypatch.setattr(command, "SIGN_OF_LIFE_S", 0.01)
    script = "echo half way; until [ -e end ]; do :; done"
    told: list[str] = []

    def hear(line: str) -> None:
        told.append(line)
        if "half way" in line:
            (tmp_path / "end").touch()

    monkeypatch.setattr(command, "say", hear)
    run("part", ("/bin/sh", "-c", script), tmp_path / "log", cwd=tmp_path)
    assert told[-1].startswith("  part")
    assert told[-1].endswith("half way")


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("cannot link", r"part: `sh` failed with “cannot link”: read .*/log and run"),
        ("write: No space left on device", r"part: the disk is full: free space and run"),
    ],
)
def test_failure(tmp_path: Path, says: str, told: str) -> None:
    """A failure is one sentence with its cause, the log and what to do."""
    with pytest.raises(CommandFailed, match=told):
        run("part", ("/bin/sh", "-c", f"echo {says}; exit 1"), tmp_path / "log")
