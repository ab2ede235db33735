"""The Consul and Nomad agents of an instance: started, found again, stopped."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from scripts.cluster.instance import ROOT, ClusterError, Instance
from scripts.cluster.ports import processes_of
from scripts.tools import find
from scripts.tools.command import say

START_DEADLINE_S = 40.0
STOP_DEADLINE_S = 15.0
POLL_S = 0.1
_WITHOUT_CGROUPS = 'umount -l /sys/fs/cgroup 2>/dev/null; exec "$@"'
"""Nomad then kills by process group and leaves the machine's cgroups alone."""
_IN_TURN = ("chrt", "--batch", "0")
"""Who is woken waits for its turn, see services.runtime.app: here for every part alike."""
_ONE_THREAD = {"GOMAXPROCS": "1"}
"""The agents and Nomad's two helpers beside each task do little, each time for microseconds: with
more threads each hands its work to another one, and both interrupt whoever runs."""


def start(instance: Instance) -> None:
    """Start the agents that do not run; tasks of earlier ones are found again by Nomad."""
    if os.geteuid() != 0:
        raise ClusterError("Nomad's client runs as root here: repeat the command as root.")
    if not _consul_leads(instance):
        say("starting Consul")
        _launch(instance, "consul", _consul_command(instance), lambda: _consul_leads(instance))
    if not nomad_ready(instance):
        say("starting Nomad")
        _launch(instance, "nomad", _nomad_command(instance), lambda: nomad_ready(instance))


def running(instance: Instance) -> bool:
    """Tell whether both agents answer."""
    return _consul_leads(instance) and nomad_ready(instance)


def nomad_ready(instance: Instance) -> bool:
    """Tell whether Nomad answers and its client takes work."""
    nodes = _get(f"{instance.nomad_url}/v1/nodes")
    return isinstance(nodes, list) and any(node["Status"] == "ready" for node in nodes)


def stop_everything(instance: Instance) -> None:
    """End the agents and whatever of the instance still runs, gently first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(instance):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        ends = time.monotonic() + STOP_DEADLINE_S
        while processes_of(instance) and time.monotonic() < ends:
            time.sleep(POLL_S)
        if not processes_of(instance):
            return
    raise ClusterError(f"Processes {processes_of(instance)} of {instance.name} do not end.")


def _consul_leads(instance: Instance) -> bool:
    return bool(_get(f"{instance.consul_url}/v1/status/leader"))


def _get(url: str) -> object:
    try:
        answer = requests.get(url, timeout=2)
        return answer.json() if answer.ok else None
    except (requests.RequestException, ValueError):
        return None


def _consul_command(instance: Instance) -> list[str]:
    ports = instance.ports
    return [
        str(find("consul").path),
        "agent",
        f"-config-file={ROOT / 'consul' / 'agent.hcl'}",
        f"-data-dir={instance.data('consul')}",
        f"-node={instance.name}",
        f"-http-port={ports['consul']}",
        f"-server-port={ports['consul_rpc']}",
        f"-serf-lan-port={ports['consul_lan']}",
        f"-serf-wan-port={ports['consul_wan']}",
    ]


def _nomad_command(instance: Instance) -> list[str]:
    own = instance.folder / "nomad.json"
    first, last = instance.dynamic_ports
    settings = {
        "name": instance.name,
        "data_dir": str(instance.data("nomad")),
        "ports": {
            "http": instance.ports["nomad"],
            "rpc": instance.ports["nomad_rpc"],
            "serf": instance.ports["nomad_serf"],
        },
        "consul": {"address": f"127.0.0.1:{instance.ports['consul']}"},
        "client": {"min_dynamic_port": first, "max_dynamic_port": last},
    }
    own.write_text(json.dumps(settings, indent=2))
    agent = [str(find("nomad").path), "agent"]
    agent += [f"-config={Path(__file__).with_name('nomad.hcl')}", f"-config={own}"]
    return ["unshare", "-m", "sh", "-c", _WITHOUT_CGROUPS, "sh", *agent]


def _launch(
    instance: Instance, name: str, command: Sequence[str], ready: Callable[[], bool]
) -> None:
    """Start an agent that outlives us; ClusterError, and nothing left, when it does not serve."""
    log = instance.folder / "log" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    instance.data(name).mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_IN_TURN, *command],
            env=os.environ | _ONE_THREAD,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    ends = time.monotonic() + START_DEADLINE_S
    while not ready():
        if process.poll() is not None:
            raise ClusterError(f"{name} ended at its start: the reason is at the end of {log}.")
        if time.monotonic() > ends:
            process.terminate()
            raise ClusterError(
                f"{name} did not become ready within {START_DEADLINE_S:.0f} s: look at {log}."
            )
        time.sleep(POLL_S)
