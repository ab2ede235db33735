"""The links of an instance: each service's way to each of its dependencies.

They are direct, or each leads through a proxy of its own in Toxiproxy. A proxied service finds the
proxy where it would find any address that an operator gives: in Consul KV.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import requests
from prometheus_client.parser import text_string_to_metric_families

from scripts.cluster.instance import ClusterError, Instance
from scripts.cluster.jobs import channels
from scripts.tools import find

USES = {
    "api-gateway": ("redis",),
    "message": ("kafka", "mongodb"),
    "router": ("kafka",),
    "user": ("postgres",),
}
CONNECTOR_USES = ("kafka", "postgres")
PROVIDER = "provider-"
PROVE_DEADLINE_S = 20.0
POLL_S = 0.2
_BYTES = re.compile(r"\bbytes_(received|acked):(\d+)")


class Mode(StrEnum):
    """How services reach what they depend on."""

    DIRECT = "direct"
    PROXIED = "proxied"


@dataclass(frozen=True)
class Link:
    """A service's way through a proxy to one dependency."""

    service: str
    dependency: str
    port: int
    """Where the service connects."""
    entry: int
    """Where the proxy goes on to, when the dependency has an entrance for each link."""

    @property
    def name(self) -> str:
        """The proxy's name."""
        return f"{self.service}--{self.dependency}"

    @property
    def address(self) -> str:
        """Where the service connects, host and port."""
        return f"127.0.0.1:{self.port}"


class Carried(NamedTuple):
    """How many bytes went through a link."""

    there_bytes: int = 0
    back_bytes: int = 0


def choose(instance: Instance, mode: Mode | None, *, running: bool) -> None:
    """Keep a mode for an instance; ClusterError when it runs in the other one."""
    now = mode_of(instance)
    if mode is None or mode == now:
        return
    if running:
        raise ClusterError(
            f"{instance.name} runs with {now} links: stop it first, `{instance.down_command()}`."
        )
    _keep(instance, _kept(instance)._replace(mode=mode))


def mode_of(instance: Instance) -> Mode:
    """Return the mode of an instance."""
    return Mode(_kept(instance).mode)


def links_of(instance: Instance) -> list[Link]:
    """Return the proxied links of an instance; none where links are direct."""
    if mode_of(instance) is Mode.DIRECT:
        return []
    kept = _kept(instance)
    wanted = [f"{service}--{dependency}" for service, dependency in _pairs()]
    new = [name for name in wanted if name not in kept.slots]
    if new:
        _keep(instance, kept._replace(slots=[*kept.slots, *new]))
    return [link for link in former(instance) if link.name in wanted]


def former(instance: Instance) -> list[Link]:
    """Return every link that was ever proxied here: each keeps its ports."""
    first, _ = instance.link_ports
    found = []
    for slot, name in enumerate(_kept(instance).slots):
        service, _, dependency = name.partition("--")
        found.append(Link(service, dependency, first + 2 * slot, first + 2 * slot + 1))
    return found


def shared_variables(instance: Instance) -> dict[str, str]:
    """Return the variables that tell Toxiproxy's and Kafka's jobs of the links."""
    links = links_of(instance)
    if not links:
        return {}
    if find("kafka").source == "address":
        raise ClusterError(
            "Kafka elsewhere cannot be proxied, it would tell its clients the way past the proxy: "
            "unset CHAT4ALL_KAFKA, or use --links direct."
        )
    proxies = [
        {"name": link.name, "port": link.port, "upstream": upstream(instance, link)}
        for link in links
    ]
    listeners = [
        {"service": link.service, "port": link.port, "entry": link.entry}
        for link in links
        if link.dependency == "kafka"
    ]
    return {
        "toxiproxy_binary": str(find("toxiproxy").path),
        "toxiproxy_port": str(instance.ports["toxiproxy"]),
        "links": json.dumps(proxies),
        "kafka_links": json.dumps(listeners),
    }


def own_variables(instance: Instance) -> dict[str, dict[str, str]]:
    """Return the variables of connectors and providers that lie at both ends of a link."""
    variables: dict[str, dict[str, str]] = {}
    for link in links_of(instance):
        if link.dependency.startswith(PROVIDER):
            variables[link.service] = {"provider_url": f"http://{link.address}"}
            variables[link.dependency] = {"http_port": str(link.entry)}
    return variables


def upstream(instance: Instance, link: Link) -> str:
    """Return what is behind the proxy of a link."""
    if link.dependency == "kafka" or link.dependency.startswith(PROVIDER):
        return f"127.0.0.1:{link.entry}"
    return find(link.dependency).address or f"127.0.0.1:{instance.ports[link.dependency]}"


def carried(instance: Instance) -> dict[str, Carried]:
    """Return what each link carried since Toxiproxy's start.

    Toxiproxy counts the bytes of a connection when it ends; those of open ones the kernel knows.
    """
    links = links_of(instance)
    ended, open_now = dict(_ended(instance)), _open_now()
    return {
        link.name: Carried(
            ended.get((link.name, "received", "upstream"), 0)
            + open_now.get((link.port, "received"), 0),
            ended.get((link.name, "sent", "downstream"), 0) + open_now.get((link.port, "acked"), 0),
        )
        for link in links
    }


def prove(
    instance: Instance,
    since: Mapping[str, Carried] | None = None,
    deadline_s: float = PROVE_DEADLINE_S,
) -> None:
    """Return when every link carried bytes both ways, after what it had carried before.

    Raises ClusterError with the links that stay silent: a fault on them would break nothing.
    """
    before = since or {}
    ends = time.monotonic() + deadline_s
    while silent := [
        name
        for name, now in carried(instance).items()
        if not all(n > b for n, b in zip(now, before.get(name, Carried()), strict=True))
    ]:
        if time.monotonic() > ends:
            raise ClusterError(
                f"No traffic flows through {', '.join(silent)}: look at what the service says, "
                f"`./scripts/just logs {silent[0].split('--')[0]}`."
            )
        time.sleep(POLL_S)


def _pairs() -> Iterator[tuple[str, str]]:
    for service, dependencies in USES.items():
        yield from ((service, dependency) for dependency in dependencies)
    for channel in channels():
        for dependency in (*CONNECTOR_USES, f"{PROVIDER}{channel}"):
            yield f"connector-{channel}", dependency


def _ended(instance: Instance) -> Iterator[tuple[tuple[str, str, str], int]]:
    url = f"http://127.0.0.1:{instance.ports['toxiproxy']}/metrics"
    try:
        answer = requests.get(url, timeout=2)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise ClusterError(f"Toxiproxy does not answer at {url}: look at `just status`.") from error
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            kind = sample.name.removeprefix("toxiproxy_proxy_").removesuffix("_bytes_total")
            if kind in ("received", "sent"):
                labels = sample.labels
                yield (labels["proxy"], kind, labels["direction"]), int(sample.value)


def _open_now() -> dict[tuple[int, str], int]:
    """Return the bytes of open connections by the port that accepted them."""
    ss = ("ss", "--tcp", "--info", "--numeric", "--no-header", "--oneline", "state", "established")
    found: dict[tuple[int, str], int] = {}
    for line in subprocess.run(ss, capture_output=True, text=True, check=True).stdout.splitlines():
        port = int(line.split()[2].rpartition(":")[2])
        for kind, count in _BYTES.findall(line):
            found[port, kind] = found.get((port, kind), 0) + int(count)
    return found


class _Kept(NamedTuple):
    """What an instance remembers: a link's place among the slots decides on its ports."""

    mode: str = Mode.DIRECT
    slots: Sequence[str] = ()


def _file(instance: Instance) -> Path:
    return instance.folder / "links.json"


def _kept(instance: Instance) -> _Kept:
    file = _file(instance)
    return _Kept(**json.loads(file.read_text())) if file.exists() else _Kept()


def _keep(instance: Instance, kept: _Kept) -> None:
    _file(instance).write_text(json.dumps(kept._asdict(), indent=1))
