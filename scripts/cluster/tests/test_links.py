"""Links: their modes, their ports, what they carried, and what services are told of them."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scripts.cluster import links
from scripts.cluster.instance import ClusterError, Instance
from scripts.cluster.links import Carried, Link, Mode
from scripts.tools import Tool


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """Return an instance with a folder of its own and two channels."""
    monkeypatch.setattr(Instance, "folder", tmp_path)
    monkeypatch.setattr(links, "channels", lambda: ["heron", "pigeon"])
    monkeypatch.setattr(links, "find", lambda name: Tool(name, "1", "PATH", Path("/bin") / name))
    return Instance("dev")


def test_links_are_direct_until_they_are_proxied(instance: Instance) -> None:
    """The mode is kept until another is chosen, and nothing of it shows while links are direct."""
    assert links.links_of(instance) == []
    assert links.shared_variables(instance) == {}
    assert links.own_variables(instance) == {}
    links.choose(instance, Mode.PROXIED, running=False)
    links.choose(instance, None, running=True)
    assert links.mode_of(instance) is Mode.PROXIED
    links.choose(instance, Mode.DIRECT, running=False)
    assert links.links_of(instance) == []


def test_a_running_instance_keeps_its_mode(instance: Instance) -> None:
    """Services read their addresses at the start, so the mode does not change under them."""
    links.choose(instance, Mode.DIRECT, running=True)
    with pytest.raises(ClusterError, match="dev runs with direct links: stop it first"):
        links.choose(instance, Mode.PROXIED, running=True)


def test_every_dependency_has_a_proxy(instance: Instance) -> None:
    """Each service has a link to each thing it uses, a connector also to its own provider."""
    links.choose(instance, Mode.PROXIED, running=False)
    names = [link.name for link in links.links_of(instance)]
    assert names[:5] == [
        "api-gateway--redis",
        "message--kafka",
        "message--mongodb",
        "router--kafka",
        "user--postgres",
    ]
    assert names[5:8] == [
        "connector-heron--kafka",
        "connector-heron--postgres",
        "connector-heron--provider-heron",
    ]
    assert len(names) == 11


def test_a_link_keeps_its_ports(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that comes or goes moves no other link; all ports are the instance's own."""
    links.choose(instance, Mode.PROXIED, running=False)
    before = set(links.links_of(instance))
    monkeypatch.setattr(links, "channels", lambda: ["crow", "pigeon"])
    after = set(links.links_of(instance))
    assert {link for link in before if "heron" not in link.name} < after
    first, last = instance.link_ports
    used = [port for link in links.former(instance) for port in (link.port, link.entry)]
    assert len(set(used)) == len(used) == 28
    assert set(used) <= set(range(first, last + 1))


def test_the_jobs_are_told(instance: Instance) -> None:
    """Toxiproxy gets every proxy, Kafka a listener for each client, both ends of a provider."""
    links.choose(instance, Mode.PROXIED, running=False)
    by_name = {link.name: link for link in links.links_of(instance)}
    variables = links.shared_variables(instance)
    proxies = {proxy["name"]: proxy for proxy in json.loads(variables["links"])}
    assert set(proxies) == set(by_name)
    assert proxies["message--mongodb"]["upstream"] == f"127.0.0.1:{instance.ports['mongodb']}"
    assert proxies["router--kafka"]["upstream"] == f"127.0.0.1:{by_name['router--kafka'].entry}"
    listeners = json.loads(variables["kafka_links"])
    assert [listener["service"] for listener in listeners] == [
        "message",
        "router",
        "connector-heron",
        "connector-pigeon",
    ]
    provider = by_name["connector-heron--provider-heron"]
    own = links.own_variables(instance)
    assert own["connector-heron"] == {"provider_url": f"http://{provider.address}"}
    assert own["provider-heron"] == {"http_port": str(provider.entry)}


def test_kafka_elsewhere_cannot_be_proxied(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers lead past any proxy; what else is elsewhere lies behind one."""
    links.choose(instance, Mode.PROXIED, running=False)
    monkeypatch.setattr(links, "find", lambda name: Tool(name, "", "address", None, "far:1"))
    redis = next(link for link in links.links_of(instance) if link.dependency == "redis")
    assert links.upstream(instance, redis) == "far:1"
    with pytest.raises(ClusterError, match="unset CHAT4ALL_KAFKA"):
        links.shared_variables(instance)


@contextmanager
def counters(lines: list[str]) -> Iterator[int]:
    """Serve metrics as Toxiproxy does; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with the metrics."""
            self.send_response(200)
            self.end_headers()
            self.wfile.write("\n".join(["# TYPE x counter", *lines, ""]).encode())

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ended(kind: str, direction: str, count: int) -> str:
    """Return one line of Toxiproxy's about connections that ended."""
    labels = f'direction="{direction}",listener="l",proxy="router--kafka",upstream="u"'
    return f"toxiproxy_proxy_{kind}_bytes_total{{{labels}}} {count}"


@pytest.mark.parametrize(
    ("lines", "back", "expected"),
    [
        ([], b"answer", Carried(8, 6)),
        ([], b"", Carried(8, 0)),
        ([ended("received", "upstream", 5), ended("sent", "upstream", 9)], b"", Carried(13, 0)),
        ([ended("sent", "downstream", 7)], b"answer", Carried(8, 13)),
    ],
)
def test_bytes_of_open_and_ended_connections_count(
    instance: Instance,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    back: bytes,
    expected: Carried,
) -> None:
    """A connection that stays open has carried something too; silence is told with its name."""
    with (
        counters(lines) as toxiproxy,
        closing(socket.create_server(("127.0.0.1", 0))) as proxy,
        closing(socket.create_connection(proxy.getsockname())) as service,
        closing(proxy.accept()[0]) as accepted,
    ):
        link = Link("router", "kafka", proxy.getsockname()[1], 1)
        monkeypatch.setattr(links, "links_of", lambda _: [link])
        monkeypatch.setattr(Instance, "ports", {"toxiproxy": toxiproxy})
        service.sendall(b"question")
        assert accepted.recv(8) == b"question"
        accepted.sendall(back)
        assert service.recv(len(back)) == back
        # The kernel acknowledges when it likes.
        ends = time.monotonic() + 5
        while links.carried(instance) != {link.name: expected} and time.monotonic() < ends:
            time.sleep(0.01)
        assert links.carried(instance) == {link.name: expected}
        if expected.back_bytes:
            links.prove(instance, deadline_s=0)
        with pytest.raises(ClusterError, match="No traffic flows through router--kafka"):
            links.prove(instance, {link.name: expected}, deadline_s=0)


def test_toxiproxy_away_is_told(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is proved while Toxiproxy does not answer."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(Instance, "ports", {"toxiproxy": port})
    with pytest.raises(ClusterError, match="Toxiproxy does not answer"):
        links.prove(instance)
