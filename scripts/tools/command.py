"""Running a long command: everything into a log, a sign of life on the terminal."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

SIGN_OF_LIFE_S = 10.0
TAIL_BYTES = 4096
TAIL_WIDTH = 90
AGAIN = "run the same command again"


class CommandFailed(Exception):  # noqa: N818 - a sentence for the person who started it
    """A command of a recipe ended badly; the message names the log."""


def sentence(error: OSError) -> str:
    """Say what the operating system refused, and what to do about it."""
    if error.errno == errno.ENOSPC:
        return f"the disk is full at {error.filename or 'the cache'}: free space and {AGAIN}"
    return f"{error.strerror} at {error.filename}: put that right and {AGAIN}"


def say(line: str) -> None:
    """Tell the person at the terminal; stdout stays free for results."""
    print(line, file=sys.stderr, flush=True)


def run(
    label: str,
    command: Iterable[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command to its end, with a line of progress every few seconds."""
    started = time.monotonic()
    words = [str(word) for word in command]
    with log.open("a") as output:
        print("$", *words, file=output, flush=True)
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        ) as process:
            try:
                code = _watch(process, label, log, started)
            finally:
                process.terminate()
    if code:
        raise CommandFailed(_failure(label, words[0], log))


def _watch(process: "subprocess.Popen[bytes]", label: str, log: Path, started: float) -> int:
    while True:
        try:
            return process.wait(SIGN_OF_LIFE_S)
        except subprocess.TimeoutExpired:
            say(f"  {label} {time.monotonic() - started:4.0f} s  {_tail(log)[-TAIL_WIDTH:]}")


def _tail(log: Path) -> str:
    """Return the last line of a log that says something."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _failure(label: str, program: str, log: Path) -> str:
    if "No space left on device" in log.read_text(errors="replace"):
        return f"{label}: the disk is full: free space and {AGAIN} (log: {log})"
    name = Path(program).name
    return f"{label}: `{name}` failed with “{_tail(log)}”: read {log} and {AGAIN}"
