"""The smoke runs on an instance of its own and leaves nothing but its results."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

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
        self.late = 0
        """How many times it has not ended yet when it is waited for."""
        self.waited_s = 0.0
        self.signals: list[int] = []
        self.killed = False

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

    def start(self, command: list[str], *, cwd: object, env: dict[str, str]) -> "Played":
        """Play the start of the suite."""
        self.asked.append((*command, cwd, env["CHAT4ALL_INSTANCE"]))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append(("left", self.killed))

    def wait(self, patience_s: float) -> int:
        """Play the end of the suite, or that it takes longer."""
        self.waited_s += patience_s
        if self.late:
            self.late -= 1
            raise subprocess.TimeoutExpired("chaos", patience_s)
        return self.code

    def send_signal(self, number: int) -> None:
        """Write down a signal."""
        self.signals.append(number)

    def kill(self) -> None:
        """Play what a kill does, also to a suite that has ended."""
        self.killed = True


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Lend a cluster that is played."""
    found = Played()
    for name in ("up", "down", "shell"):
        monkeypatch.setattr(cluster, name, getattr(found, name))
    monkeypatch.setattr(subprocess, "Popen", found.start)
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
    assert played.asked == [WIPED, UP, chaos, ("left", True), WIPED]
    assert not played.signals
    assert str(ROOT / ".local" / "chaos") in capsys.readouterr().err


def test_an_instance_that_does_not_start_fails_the_smoke(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was proved, the reason is told, and what did start is taken down."""
    played.up_fails = True
    assert smoke.main() == smoke.NOT_STARTED
    assert played.asked == [WIPED, UP, WIPED]
    assert "port 1 is taken" in capsys.readouterr().err


@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_suite_that_takes_too_long_is_interrupted(
    played: Played, capsys: pytest.CaptureFixture[str], late: int
) -> None:
    """It is asked to heal and to end, twice, then it is killed; all of it in 12 minutes."""
    played.late, played.code = late, 2
    assert smoke.main() == (2 if late < 3 else smoke.NOT_STARTED)
    assert played.signals == [signal.SIGINT, signal.SIGINT, signal.SIGKILL][:late]
    assert played.waited_s < 660
    assert played.asked[-1] == WIPED
    assert "has not ended after 540 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("test", "smoke", "ran", "code"),
    [
        (0, 0, "test\nsmoke\n", 0),
        (1, 0, "test\n", 1),
        (0, 1, "test\nsmoke\n", 1),
        (0, 2, "test\nsmoke\n", 2),
        (0, 255, "test\nsmoke\n", 255),
    ],
)
def test_a_submission_is_tested_and_broken_on_purpose(
    tmp_path: Path, test: int, smoke: int, ran: str, code: int
) -> None:
    """The tests come first, then the smoke, and each of them can fail the run."""
    for folder in (".ci", "scripts"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    just = tmp_path / "scripts" / "just"
    just.write_text(f"#!/bin/sh\necho $1\n[ $1 = test ] && exit {test}\nexit {smoke}\n")
    just.chmod(0o755)
    result = subprocess.run(
        [tmp_path / ".ci" / "run"], cwd="/", capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.returncode) == (ran, code)


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
