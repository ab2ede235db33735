"""`scripts/just` finds its tools from wherever it is called."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CLONE = Path(__file__).parents[3]


def test_runs_just_on_this_clone(cached: Callable[[str, int], Path], tmp_path: Path) -> None:
    """The cached `just` gets this clone's Justfile, the arguments, and `uv` on its PATH."""
    folder = tmp_path / "path"
    folder.mkdir()
    for name in ("dirname", "readlink"):
        (folder / name).symlink_to(shutil.which(name, path=os.defpath) or "")
    (folder / "python3").symlink_to(sys.executable)
    just, uv = cached("just", 0), cached("uv", 0)
    just.write_text('#!/bin/sh\necho "$@"\ncommand -v uv\n')
    for program in (just, uv):
        program.chmod(0o755)
    answer = subprocess.run(
        [CLONE / "scripts" / "just", "greet", "a b"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == f"--justfile {CLONE}/Justfile greet a b\n{uv}\n"
