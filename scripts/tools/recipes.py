"""How each part is made, with the ordinary client of its own ecosystem."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.tools import debian
from scripts.tools.cache import Workplace
from scripts.tools.command import run
from scripts.tools.debian import Package

HERE = Path(__file__).parent
# The project's own environment has no pip; the Python it was made from has, or gets it from Debian.
PYTHON = Path(sys.base_prefix) / "bin" / "python3"


def _has_pip() -> bool:
    answer = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)
    return answer.returncode == 0


PIP = Package("python3-pip", _has_pip)
SS = debian.program("iproute2", "ss")
MAVEN = debian.program("maven", "mvn")
CERTIFICATES = Package("ca-certificates", Path("/etc/ssl/certs/ca-certificates.crt").exists)
COMPILERS = (
    debian.program("build-essential", "c++"),
    debian.program("cmake", "cmake"),
    debian.program("ninja-build", "ninja"),
    debian.program("swig", "swig"),
    CERTIFICATES,
)


def go_module(name: str, package: str, tags: str = "") -> Callable[[Workplace], None]:
    """Build a Go program in the wrapper module of that name beside this file."""

    def fill(work: Workplace) -> None:
        go, target = work.tools["go"], work.target / "bin" / name
        flags = ("-v", "-trimpath", "-tags", tags, "-ldflags", "-s -w", "-o", target)
        run(
            work.label,
            (go, "build", *flags, package),
            work.log,
            cwd=HERE / name,
            env={"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOTMPDIR": str(work.scratch)},
        )

    return fill


def kafka_jars(work: Workplace) -> None:
    """Copy the jars that kafka/pom.xml names, with everything they need."""
    pom, libs = HERE / "kafka" / "pom.xml", work.target / "libs"
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={libs}")
    run(work.label, ("mvn", "--batch-mode", "--file", pom, *goal), work.log)


def wheel(requirement: str) -> Callable[[Workplace], None]:
    """Unpack one wheel that holds the real executable."""

    def fill(work: Workplace) -> None:
        pip = (PYTHON, "-m", "pip", "install", "--no-deps", "--target", work.target)
        run(work.label, (*pip, requirement), work.log, env={"TMPDIR": str(work.scratch)})

    return fill


def environment(requirement: str, program: str) -> Callable[[Workplace], None]:
    """Make a Python environment of its own; only the program is seen beside it, not its Python."""

    def fill(work: Workplace) -> None:
        uv, venv = work.tools["uv"], work.target / "venv"
        run(work.label, (uv, "venv", "--relocatable", "--python", PYTHON, venv), work.log)
        pip = ("pip", "install", "--python", venv / "bin" / "python")
        run(work.label, (uv, *pip, requirement), work.log)
        (work.target / "bin").mkdir()
        (work.target / "bin" / program).symlink_to(Path("..", "venv", "bin", program))

    return fill


def crate(name: str, version: str) -> Callable[[Workplace], None]:
    """Build a Rust program; its compiled crates outlive an interruption."""

    def fill(work: Workplace) -> None:
        cargo = (work.tools["cargo"], "install", name, "--version", version, "--locked")
        # It declares a newer Rust than it uses.
        flags = ("--ignore-rust-version", "--no-track", "--root", work.target)
        run(
            work.label,
            (*cargo, *flags),
            work.log,
            env={"CARGO_TARGET_DIR": str(work.scratch)},
        )

    return fill
