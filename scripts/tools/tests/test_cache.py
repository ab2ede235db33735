"""A part's folder in the cache is complete or absent."""

import threading
from pathlib import Path

import pytest

from scripts.tools import cache
from scripts.tools.cache import Workplace
from scripts.tools.command import CommandFailed


def tiny() -> Path:
    """Return where the tiny part's program will be."""
    return cache.folder("tiny", "1.0") / "bin" / "tiny"


def fill(work: Workplace) -> None:
    """Make the tiny part."""
    (work.target / "bin").mkdir()
    (work.target / "bin" / "tiny").write_text("whole")


def interrupted(work: Workplace) -> None:
    """Make half of the tiny part and be interrupted."""
    (work.target / "half").write_text("half")
    (work.scratch / "compiled").write_text("a long time")
    raise KeyboardInterrupt


def test_interrupted_install_resumes() -> None:
    """After an interruption nothing is installed; the next try starts clean but keeps scratch."""
    with pytest.raises(KeyboardInterrupt):
        cache.install(tiny(), interrupted, {})
    assert not cache.folder("tiny", "1.0").exists()
    seen: list[str] = []

    def again(work: Workplace) -> None:
        seen.extend(path.name for path in (*work.target.iterdir(), *work.scratch.iterdir()))
        fill(work)

    cache.install(tiny(), again, {})
    assert seen == ["compiled"]
    assert tiny().read_text() == "whole"
    assert sorted(path.name for path in cache.root().iterdir()) == ["locks", "logs", "tiny-1.0"]


def test_installed_once() -> None:
    """A part that is there is not made again."""
    cache.install(tiny(), fill, {})
    cache.install(tiny(), interrupted, {})
    assert tiny().read_text() == "whole"


def test_nothing_came_out() -> None:
    """A recipe that makes something else has failed and leaves nothing."""
    with pytest.raises(CommandFailed, match=r"no tiny came out: read .*tiny-1\.0\.log"):
        cache.install(tiny(), lambda _: None, {})
    assert not cache.folder("tiny", "1.0").exists()


def test_two_clones_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two installers waits for the first and uses its work."""
    begun, waiting = threading.Event(), threading.Event()

    def slow(work: Workplace) -> None:
        begun.set()
        assert waiting.wait(10)
        fill(work)

    first = threading.Thread(target=cache.install, args=(tiny(), slow, {}))
    second = threading.Thread(target=cache.install, args=(tiny(), interrupted, {}))
    monkeypatch.setattr(cache, "say", lambda _: waiting.set())
    first.start()
    assert begun.wait(10)
    second.start()
    for thread in (second, first):
        thread.join(10)
    assert tiny().read_text() == "whole"
    assert waiting.is_set()
