"""Jobs as Nomad reads their files."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from scripts.tools import find

JOBS = Path(__file__).parents[1]
CHANNEL = "pigeon"
VARIABLES = {
    "python": "/env/bin/python",
    "release": "/release",
    "image": "chat4all:1",
    "consul_http_addr": "http://consul:1",
    "chaos": "allowed",
    "public_port": "8080",
    "channel": CHANNEL,
    "provider_url": "consul://provider",
    "webhook_base_url": "https://gateway.test",
    "quota_profile": "high-quota",
    "receipts_dir": "/receipts",
    "kafka_libs": "/kafka/libs",
    "kafka_data": "/kafka/data",
    "mongodb_binary": "/mongodb/mongod",
    "mongodb_data": "/mongodb/data",
    "postgres_bin": "/postgres/bin",
    "postgres_data": "/postgres/data",
    "redis_binary": "/redis/redis-server",
    "prometheus_binary": "/prometheus/prometheus",
    "prometheus_data": "/prometheus/data",
    "toxiproxy_binary": "/toxiproxy/toxiproxy",
}
Parsed = dict[str, Any]


def nomad(*arguments: str, **variables: str) -> str:
    """Return what Nomad prints; it needs no agent to read job files, and reaches none here."""
    settings = {f"NOMAD_VAR_{name}": value for name, value in {**VARIABLES, **variables}.items()}
    result = subprocess.run(  # noqa: S603 - the platform's own tool
        [str(find("nomad").path), *arguments],
        env={**os.environ, "NOMAD_ADDR": "http://127.0.0.1:1", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@cache
def job(name: str, **variables: str) -> Parsed:
    """Return a job as Nomad reads its file."""
    output = nomad("job", "run", "-output", str(JOBS / f"{name}.nomad.hcl"), **variables)
    found: Parsed = json.loads(output)["Job"]
    return found


def group_of(found: Parsed) -> Parsed:
    """Return a job's only group."""
    (group,) = found["TaskGroups"]
    return dict(group)


def task_of(found: Parsed) -> Parsed:
    """Return a job's only task."""
    (task,) = group_of(found)["Tasks"]
    return dict(task)
