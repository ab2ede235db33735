"""A part is taken from an address, the machine or the cache, in this order."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.tools import MissingTool, find, locate
from scripts.tools.search import look
from scripts.tools.tests.conftest import Program

Cached = Callable[[str, int], Path]


def test_ladder(program: Program, cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rung of MongoDB's ladder wins over the ones below it."""
    assert look("mongodb") is None
    wheel = cached("mongodb", 1)
    assert (find("mongodb").flavour, find("mongodb").path) == ("secantus-wheel", wheel)
    built = cached("mongodb", 0)
    assert (find("mongodb").flavour, find("mongodb").path) == ("secantus", built)
    mongod = program("mongod", "db version v7.0.5")
    assert (find("mongodb").flavour, find("mongodb").path) == ("mongod", mongod)
    monkeypatch.setenv("CHAT4ALL_MONGODB", "db.example:27017")
    tool = find("mongodb")
    assert (tool.source, tool.flavour, tool.path) == ("address", "address", None)
    assert tool.address == "db.example:27017"


@pytest.mark.parametrize("version", ["1.10.9", "1.12.0", "unknown"])
def test_untested_version_on_path(program: Program, cached: Cached, version: str) -> None:
    """A version that was not tested is passed over for our own."""
    program("nomad", f"Nomad v{version}")
    assert look("nomad") is None
    path = cached("nomad", 0)
    assert (find("nomad").source, find("nomad").path) == ("cache", path)


def test_own_cache_on_path(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PATH finds in our own cache still comes from the cache."""
    path = cached("just", 0)
    path.write_text("#!/bin/sh\necho just 1.59.0\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))
    assert find("just").source == "cache"


def test_version_is_remembered(program: Program, tmp_path: Path) -> None:
    """A program is asked for its version again only when its file has changed."""
    asked = tmp_path / "asked"
    path = program("java", "17.0.1")
    path.write_text(f"{path.read_text()}echo once >> {asked}\n")
    assert {find("java").version for _ in range(3)} == {"17.0.1"}
    assert asked.read_text() == "once\n"
    program("java", "openjdk 21.0.2")
    assert find("java").version == "21.0.2"


def test_postgres_of_debian(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian keeps PostgreSQL outside PATH; the newest tested one is taken."""
    for major in (9, 15, 16, 99):
        bin_folder = locate.DEBIAN / "postgresql" / str(major) / "bin"
        bin_folder.mkdir(parents=True)
        program("postgres", f"postgres (PostgreSQL) {major}.2").rename(bin_folder / "postgres")
    tool = find("postgres")
    assert (tool.version, tool.source) == ("16.2", "debian")
    assert tool.path == locate.DEBIAN / "postgresql" / "16" / "bin"
    monkeypatch.setenv("CHAT4ALL_POSTGRES", "[::1]:5432")
    assert find("postgres").address == "[::1]:5432"


def test_java_that_alternatives_hide(program: Program) -> None:
    """An old Java on PATH does not hide the tested one that Debian has beside it."""
    program("java", 'openjdk version "11.0.2"')
    home = locate.DEBIAN / "jvm" / "java-17-openjdk-amd64" / "bin"
    home.mkdir(parents=True)
    program("old", 'openjdk version "17.0.15"').rename(home / "java")
    assert (find("java").version, find("java").source) == ("17.0.15", "debian")


def test_kafka_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka distribution is known by its start script and used by its jars."""
    script = tmp_path / "kafka" / "bin" / "kafka-server-start.sh"
    jar = tmp_path / "kafka" / "libs" / "kafka_2.13-4.1.0.jar"
    for file in (script, jar):
        file.parent.mkdir(parents=True)
        file.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    assert (find("kafka").version, find("kafka").path) == ("4.1.0", jar.parent)
    jar.rename(jar.with_name("kafka_2.13-3.9.0.jar"))
    assert look("kafka") is None


def test_missing_says_what_to_do() -> None:
    """A missing part is one sentence with the command that installs it."""
    with pytest.raises(MissingTool) as missing:
        find("consul")
    assert str(missing.value) == (
        "consul is missing: run `python3 -m scripts.tools ensure consul` in the clone"
    )


def test_no_such_part() -> None:
    """A part that nobody knows is answered with those that exist."""
    with pytest.raises(MissingTool, match="no part mysql: choose from uv, just"):
        find("mysql")


@pytest.mark.parametrize("address", ["nowhere", "http://host:1", "host:", "a b:1"])
def test_address_must_be_host_and_port(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that cannot be used names its variable."""
    monkeypatch.setenv("CHAT4ALL_KAFKA", address)
    with pytest.raises(MissingTool, match="CHAT4ALL_KAFKA is not an address: set it to host:port"):
        find("kafka")
