"""The smoke runs on an instance of its own and leaves nothing but its results."""

import subprocess
import sys
from typing import Any

import pytest

from scripts import smoke
from scripts.cluster import cluster
from scripts.cluster.instance import ROOT, ClusterError, Instance
from scripts.cluster.links import Mode


class Played:
    """Plays the cluster and the suite, and writes down what was asked of them in which order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.code = 0
        self.up_fails = False

    def down(self, instance: Instance, *, wipe: bool) -> None:
        """Play the end of an instance."""
        self.asked.append(("down", instance.name, wipe))

    def up(self, instance: Instance, mode: Mode) -> None:
        """Play the start of an instance."""
        self.asked.append(("up", instance.name, mode))
        if self.up_fails:
            raise ClusterError("port 1 is taken")

    def shell(self, instance: Instance) -> dict[str, str]:
        """Play its environment."""
        return {"CHAT4ALL_INSTANCE": instance.name}

    def run(
        self, command: list[str], *, cwd: object, env: dict[str, str], check: bool
    ) -> "subprocess.CompletedProcess[str]":
        """Play the suite."""
        assert not check
        self.asked.append((*command, cwd, env["CHAT4ALL_INSTANCE"]))
        return subprocess.CompletedProcess(command, self.code)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Lend a cluster that is played."""
    found = Played()
    for name in ("up", "down", "shell"):
        monkeypatch.setattr(cluster, name, getattr(found, name))
    monkeypatch.setattr(subprocess, "run", found.run)
    return found


WIPED = ("down", "test", True)
UP = ("up", "test", Mode.PROXIED)


@pytest.mark.parametrize("code", [0, 1, 2, 255])
def test_the_verdict_of_the_suite_is_the_verdict_of_the_smoke(
    played: Played, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    """A fresh instance with proxied links is broken on purpose, wiped, and the reports named."""
    played.code = code
    assert smoke.main() == code
    chaos = (sys.executable, "-m", "chaos", "all", "--smoke", ROOT, "test")
    assert played.asked == [WIPED, UP, chaos, WIPED]
    assert str(ROOT / ".local" / "chaos") in capsys.readouterr().err


def test_an_instance_that_does_not_start_fails_the_smoke(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was proved, the reason is told, and what did start is taken down."""
    played.up_fails = True
    assert smoke.main() == smoke.NOT_STARTED
    assert played.asked == [WIPED, UP, WIPED]
    assert "port 1 is taken" in capsys.readouterr().err


def test_an_interruption_takes_the_instance_down(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interrupts the smoke leaves no cluster behind."""

    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(smoke, "chaos", interrupted)
    with pytest.raises(KeyboardInterrupt):
        smoke.main()
    assert played.asked[-1] == WIPED
