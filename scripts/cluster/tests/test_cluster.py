"""The local cluster's own rules: ports, owners of taken ports, releases, names."""

import socket
from pathlib import Path

import pytest

from scripts.cluster import cluster, jobs, ports, release
from scripts.cluster.instance import NAMES, ClusterError, Instance, find


def test_instances_share_no_port() -> None:
    """Two instances run side by side: no port is both's, and none is among Nomad's own range."""
    fixed = [port for name in NAMES for port in Instance(name).ports.values()]
    assert len(set(fixed)) == len(fixed)
    blocks = [b for n in NAMES for b in (Instance(n).dynamic_ports, Instance(n).link_ports)]
    spans = [range(first, last + 1) for first, last in blocks]
    assert not any(port in span for port in fixed for span in spans)
    assert len(set().union(*spans)) == sum(map(len, spans))


def test_an_instance_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument counts, then the environment, then `dev`; another name is one sentence."""
    monkeypatch.setenv("CHAT4ALL_INSTANCE", "test")
    assert find("dev").name == "dev"
    assert find(None).name == "test"
    monkeypatch.delenv("CHAT4ALL_INSTANCE")
    assert find(None).name == "dev"
    with pytest.raises(ClusterError, match="use one of dev, test"):
        find("prod")


def test_a_taken_port_names_who_took_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens on a port of ours is named with what to do about it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        number = listener.getsockname()[1]
        monkeypatch.setattr(Instance, "ports", {"gateway": number})
        with pytest.raises(ClusterError, match=rf"Port {number} \(gateway\).*python.*stop it"):
            ports.require_free(Instance("dev"))
    ports.require_free(Instance("dev"))


def test_an_unknown_service_gets_the_nearest_name() -> None:
    """A slip of the pen is answered with what was probably meant."""
    with pytest.raises(ClusterError, match="did you mean router"):
        cluster.deploy_targets("ruter")
    assert [job.name for job in cluster.deploy_targets("router")] == ["router"]


def test_every_channel_has_its_two_jobs() -> None:
    """A channel's folder is all it takes to have a connector and a provider."""
    names = [job.name for job in jobs.services()]
    for channel in jobs.channels():
        assert f"connector-{channel}" in names
        assert f"provider-{channel}" in names


def tree(folder: Path, files: dict[str, str]) -> Path:
    """Write a release with these files."""
    for name, text in files.items():
        path = folder / "services" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


BASE = {"__init__.py": "", "contracts/a.py": "1", "runtime/a.py": "1", "router/a.py": "1"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"message/a.py": "2"}, True),
        ({"router/a.py": "2"}, False),
        ({"router/b.py": ""}, False),
        ({"runtime/a.py": "2"}, False),
        ({"router/__pycache__/a.pyc": "x"}, True),
    ],
)
def test_only_what_a_job_uses_affects_it(
    tmp_path: Path, change: dict[str, str], *, same: bool
) -> None:
    """A job is redeployed for its own folder, the contracts and the runtime, and nothing else."""
    old = tree(tmp_path / "old", BASE)
    new = tree(tmp_path / "new", BASE | change)
    assert release.same_for(("router",), old, new) is same
