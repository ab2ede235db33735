"""What an instance's jobs and services are told: variables, secrets, Consul's keys."""

import hashlib
import json
import subprocess
import tomllib
from pathlib import Path

import consul
from scripts.cluster import links
from scripts.cluster.instance import ROOT, ClusterError, Instance, installation_secrets
from scripts.cluster.jobs import channels, client
from scripts.tools import Tool, find

KV_PREFIX = "chat4all/config"


def job_variables(instance: Instance, python: Path) -> dict[str, str]:
    """Return the variables of all job files but `release` and those of a channel's."""
    ports = instance.ports
    mongodb = find("mongodb")
    return {
        "python": str(python),
        "consul_http_addr": instance.consul_url,
        "chaos": "allowed",
        "public_port": str(ports["gateway"]),
        "receipts_dir": str(instance.folder / "receipts"),
        "java": str(find("java").path),
        "kafka_libs": str(find("kafka").path),
        "kafka_data": str(instance.data("kafka")),
        "kafka_port": str(ports["kafka"]),
        "kafka_controller_port": str(ports["kafka_controller"]),
        "mongodb_binary": str(mongodb.path),
        "mongodb_flavour": mongodb.flavour or "",
        "mongodb_data": str(instance.data("mongodb")),
        "mongodb_port": str(ports["mongodb"]),
        "postgres_bin": str(find("postgres").path),
        "postgres_data": str(instance.postgres_data),
        "postgres_port": str(ports["postgres"]),
        "redis_binary": str(find("redis").path),
        "redis_port": str(ports["redis"]),
        "prometheus_binary": str(find("prometheus").path),
        "prometheus_data": str(instance.data("prometheus")),
        "prometheus_port": str(ports["prometheus"]),
        **links.shared_variables(instance),
    }


def external_parts() -> dict[str, Tool]:
    """Return the infrastructure that was given by address and so is no job of ours."""
    parts = {name: find(name) for name in ("kafka", "mongodb", "postgres", "redis")}
    return {name: tool for name, tool in parts.items() if tool.source == "address"}


def announce(instance: Instance, external: dict[str, Tool]) -> None:
    """Let services find infrastructure that is not ours through Consul like any other."""
    agent = consul.Consul(host="127.0.0.1", port=instance.ports["consul"]).agent
    for name, tool in external.items():
        host, port = (tool.address or "").rsplit(":", 1)
        check = consul.Check.tcp(host, int(port), "2s", "1s")
        agent.service.register(name, address=host, port=int(port), check=check)


def put_secrets(instance: Instance, python: Path, newest: Path) -> None:
    """Write the installation's secrets into Nomad's variables, each where only its job reads it."""
    own = installation_secrets(instance)
    variables = client(instance).variable
    common = {name: own[name] for name in ("internal_token", "postgres_password")}
    variables.create_variable("nomad/jobs", {"Items": common})
    digest = hashlib.sha256(own["admin_api_key"].encode()).hexdigest()
    variables.create_variable("nomad/jobs/user", {"Items": {"bootstrap_api_key_sha256": digest}})
    for channel in channels():
        accounts = _accounts(instance, channel, python, newest)
        for kind in ("connector", "provider"):
            path = f"nomad/jobs/{kind}-{channel}"
            variables.create_variable(path, {"Items": {"accounts": accounts}})


def put_defaults(instance: Instance) -> None:
    """Write the defaults into Consul KV where nobody has written anything yet."""
    kv = consul.Consul(host="127.0.0.1", port=instance.ports["consul"]).kv
    for service, keys in tomllib.loads((ROOT / "consul" / "kv.toml").read_text()).items():
        for key, value in keys.items():
            kv.put(f"{KV_PREFIX}/{service}/{key}", value, cas=0)


def put_links(instance: Instance) -> None:
    """Lead services to their proxies, or back from there where links are direct now."""
    kv = consul.Consul(host="127.0.0.1", port=instance.ports["consul"]).kv
    proxied = links.links_of(instance)
    for link in links.former(instance):
        key = f"{KV_PREFIX}/{link.service}/{link.dependency}_address"
        if link.dependency.startswith(links.PROVIDER):
            continue
        if link in proxied:
            kv.put(key, link.address)
        elif (entry := kv.get(key)[1]) and entry["Value"] == link.address.encode():
            kv.delete(key)


def _accounts(instance: Instance, channel: str, python: Path, newest: Path) -> str:
    """Return a channel's accounts, whose credentials only this instance and its simulator know."""
    file = instance.folder / "accounts" / f"{channel}.json"
    if not file.exists():
        made = subprocess.run(
            [str(python), "-m", f"services.connectors.{channel}.config"],
            cwd=newest,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ClusterError(f"No accounts could be made for {channel}: {made.stderr.strip()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(made.stdout)
    return json.dumps(json.loads(file.read_text()), separators=(",", ":"))
