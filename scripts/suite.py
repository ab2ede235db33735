"""Runs all tests: rules, types, unit, connected and cluster tests, and says how many ran."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from scripts.cluster import cluster
from scripts.cluster.instance import ROOT, ClusterError, Instance
from scripts.tools.command import say

INSTANCE = Instance("test")
Counts = dict[str, "Counter[str]"]
STAGES = {
    "unit": "not connected and not cluster",
    "connected": "connected",
    "cluster": "cluster",
}


def main() -> int:
    """Run every stage; exit non-zero when one fails, after the summary of all that ran."""
    started = time.monotonic()
    counts: Counts = {}
    try:
        passed = checks() and stage("unit", counts)
        if passed:
            cluster.down(INSTANCE, wipe=True)
            cluster.up(INSTANCE)
            os.environ |= cluster.shell(INSTANCE)
            passed = stage("connected", counts) and stage("cluster", counts)
    except ClusterError as error:
        say(str(error))
        passed = False
    finally:
        cluster.down(INSTANCE, wipe=True)
    summary(counts, time.monotonic() - started)
    return 0 if passed else 1


def checks() -> bool:
    """Run the linter, the formatter and the type checker."""
    commands = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
    return all(subprocess.run(words, cwd=ROOT, check=False).returncode == 0 for words in commands)


def stage(name: str, counts: Counts) -> bool:
    """Run one stage of tests and count them."""
    say(f"\n== {name} tests")
    report = ROOT / ".local" / f"junit-{name}.xml"
    report.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", STAGES[name], f"--junitxml={report}"]
    if name == "cluster":
        command.append("-s")
    result = subprocess.run(command, cwd=ROOT, check=False)
    counts[name] = count(report)
    return result.returncode == 0


def count(report: Path) -> Counter[str]:
    """Return how many tests of a report passed, failed and were skipped."""
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 - our own report
    if suite is None:
        return Counter(failed=1)
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped = int(suite.get("skipped", 0))
    passed = int(suite.get("tests", 0)) - failed - skipped
    return Counter(passed=passed, failed=failed, skipped=skipped)


def summary(counts: Counts, seconds: float) -> None:
    """Print how many tests of each stage ran, and all together."""
    for name in STAGES:
        say(f"{name:10} {_words(counts[name]) if name in counts else 'did not run'}")
    say(f"after {seconds:.0f} s")
    print(_words(sum(counts.values(), Counter())))


def _words(found: Counter[str]) -> str:
    return ", ".join(f"{found[word]} {word}" for word in ("passed", "failed", "skipped"))


if __name__ == "__main__":
    sys.exit(main())
