"""Asking an executable for its version, once for as long as the file stays the same."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

from scripts.tools import cache
from scripts.tools.versions import find_version

ANSWER_TIMEOUT_S = 10


def ask(executable: str | Path, question: str) -> str | None:
    """Run the executable and return the version it tells, or None."""
    try:
        answer = subprocess.run(
            [executable, question],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return find_version(answer.stdout + answer.stderr)


def remembered(executable: Path, question: str) -> str | None:
    """Return the executable's version; starting a JVM each time would cost half a second."""
    real = executable.resolve()
    state = real.stat()
    sign = f"{state.st_mtime_ns}-{state.st_size}"
    memory = _load()
    known = memory.get(str(real), {})
    if known.get("sign") == sign:
        return known["version"]
    version = ask(executable, question)
    if version is not None:
        _save({**memory, str(real): {"sign": sign, "version": version}})
    return version


def _file() -> Path:
    return cache.root() / "versions.json"


def _load() -> dict[str, dict[str, str]]:
    try:
        memory: dict[str, dict[str, str]] = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return memory


def _save(memory: dict[str, dict[str, str]]) -> None:
    # A cache that cannot be written makes the next question slower, nothing else.
    with contextlib.suppress(OSError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        fresh = _file().with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(memory, indent=1))
        fresh.replace(_file())
