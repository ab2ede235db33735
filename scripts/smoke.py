"""The chaos smoke: a few faults on an instance of its own whose links are proxied."""

import os
import signal
import subprocess
import sys
import time

from scripts.cluster import cluster
from scripts.cluster.instance import ROOT, ClusterError, Instance
from scripts.cluster.links import Mode
from scripts.tools import MissingTool
from scripts.tools.command import say

INSTANCE = Instance("test")
RESULTS = ROOT / ".local" / "chaos"
NOT_STARTED = 255
LIMIT_S = 540.0
"""Twice what the scenarios take where nothing waits for its deadline."""
PATIENCE_S = 40.0
ENDS = ((LIMIT_S, signal.SIGINT), (PATIENCE_S, signal.SIGINT), (PATIENCE_S, signal.SIGKILL))
"""The first interruption ends the scenario that runs, the second all: each lets it heal first."""


def main() -> int:
    """Run the smoke and return its exit code; its reports outlive the instance."""
    started = time.monotonic()
    code = NOT_STARTED
    try:
        cluster.down(INSTANCE, wipe=True)
        cluster.up(INSTANCE, Mode.PROXIED)
        code = chaos()
    except (ClusterError, MissingTool) as error:
        say(str(error))
    finally:
        cluster.down(INSTANCE, wipe=True)
    say(f"chaos smoke: {words(code)}, after {time.monotonic() - started:.0f} s")
    say(f"its results and reports: {RESULTS}")
    return code


def chaos() -> int:
    """Run the scenarios of the smoke, whose table goes to stdout; interrupt what takes too long."""
    command = [sys.executable, "-m", "chaos", "all", "--smoke"]
    environment = {**os.environ, **cluster.shell(INSTANCE)}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as suite:
        try:
            for patience_s, number in ENDS:
                try:
                    return suite.wait(patience_s)
                except subprocess.TimeoutExpired:
                    say(f"the smoke has not ended after {patience_s:.0f} s: {number.name}")
                    suite.send_signal(number)
        finally:
            suite.kill()
    return NOT_STARTED


def words(code: int) -> str:
    """Say what an exit code of the chaos suite means."""
    meanings = {0: "every promise was kept", 1: "a promise was broken", 2: "not everything proved"}
    return meanings.get(code, "the suite itself failed")


if __name__ == "__main__":
    sys.exit(main())
