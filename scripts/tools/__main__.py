"""The command line of the parts: `ensure`, `doctor` and `path`."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from scripts.tools import doctor
from scripts.tools.command import say
from scripts.tools.obtain import ensure
from scripts.tools.parts import MissingTool, Tool
from scripts.tools.table import PARTS, WANTED


def main() -> int:
    """Run one command; a problem is one sentence and exit code 1."""
    # An ended installer must end the build it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = _parser().parse_args()
    try:
        if arguments.command == "doctor":
            return doctor.examine()
        started = time.monotonic()
        tools = ensure(arguments.names or WANTED, install=arguments.install)
    except MissingTool as missing:
        say(str(missing))
        return 1
    except KeyboardInterrupt:
        say("interrupted: run the same command again to go on")
        return 130
    if arguments.command == "path":
        print(os.pathsep.join(dict.fromkeys(map(str, _folders(tools)))))
    else:
        say(f"ready after {time.monotonic() - started:.2f} s: {', '.join(tools)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m scripts.tools", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="print every part and what is missing")
    for name, purpose in (
        ("ensure", "install the parts that are missing"),
        ("path", "the same, then print their folders for PATH"),
    ):
        command = commands.add_parser(name, help=purpose)
        command.add_argument("names", nargs="*", choices=[*PARTS, []], metavar="PART")
        command.add_argument("--no-install", dest="install", action="store_false")
    return parser


def _folders(tools: dict[str, Tool]) -> list[Path]:
    """Return the folders of executables that PATH does not have; jars are none."""
    found = [tool for tool in tools.values() if tool.source != "PATH" and tool.name != "kafka"]
    paths = [tool.path for tool in found if tool.path]
    return [path if path.is_dir() else path.parent for path in paths]


if __name__ == "__main__":
    sys.exit(main())
