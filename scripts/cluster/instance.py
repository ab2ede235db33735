"""Named instances of the local cluster: each with its own ports, data and secrets."""

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("dev", "test")
_OFFSET = 10_000
_PORTS = {
    "gateway": 8080,
    "nomad": 4646,
    "nomad_rpc": 4647,
    "nomad_serf": 4648,
    "consul": 8500,
    "consul_rpc": 8300,
    "consul_lan": 8301,
    "consul_wan": 8302,
    "kafka": 7092,
    "kafka_controller": 7093,
    "mongodb": 7017,
    "postgres": 7432,
    "redis": 7379,
    "prometheus": 9090,
    "s3": 9000,
    "toxiproxy": 8474,
}
_LINK_PORTS = {"dev": (7500, 7699), "test": (17_500, 17_699)}
_DYNAMIC_PORTS = {"dev": (20_000, 25_999), "test": (26_000, 31_999)}


class ClusterError(Exception):
    """What went wrong, in one sentence that says what to do next."""


@dataclass(frozen=True)
class Instance:
    """One local cluster of this clone."""

    name: str

    @property
    def ports(self) -> dict[str, int]:
        """The ports that are its own, by what listens there."""
        offset = _OFFSET * NAMES.index(self.name)
        return {part: port + offset for part, port in _PORTS.items()}

    @property
    def dynamic_ports(self) -> tuple[int, int]:
        """The first and the last port that Nomad may give to tasks."""
        return _DYNAMIC_PORTS[self.name]

    @property
    def link_ports(self) -> tuple[int, int]:
        """The first and the last port for links that are proxied."""
        return _LINK_PORTS[self.name]

    @property
    def folder(self) -> Path:
        """Where everything of it is kept."""
        return ROOT / ".local" / self.name

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's data, where its own user can go: a home of root's is closed to it."""
        clone = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
        return Path("/var/lib/chat4all") / f"{clone}-{self.name}"

    @property
    def nomad_url(self) -> str:
        """Nomad's address."""
        return f"http://127.0.0.1:{self.ports['nomad']}"

    @property
    def consul_url(self) -> str:
        """Consul's address."""
        return f"http://127.0.0.1:{self.ports['consul']}"

    @property
    def prometheus_url(self) -> str:
        """Prometheus's address."""
        return f"http://127.0.0.1:{self.ports['prometheus']}"

    @property
    def url(self) -> str:
        """The platform's address."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def data(self, part: str) -> Path:
        """Return the folder of a part's data."""
        return self.folder / "data" / part

    def down_command(self) -> str:
        """Return what stops it."""
        return f"cd {ROOT} && ./scripts/just down {self.name}"


def find(name: str | None) -> Instance:
    """Return an instance by name, else the one that CHAT4ALL_INSTANCE names, else `dev`."""
    chosen = name or os.environ.get("CHAT4ALL_INSTANCE") or NAMES[0]
    if chosen not in NAMES:
        raise ClusterError(f"There is no instance {chosen!r}: use one of {', '.join(NAMES)}.")
    return Instance(chosen)


def installation_secrets(instance: Instance) -> dict[str, str]:
    """Return the instance's own secrets, made at random on the first call."""
    file = instance.folder / "secrets.json"
    if not file.exists():
        made = {
            "internal_token": secrets.token_urlsafe(32),
            "postgres_password": secrets.token_urlsafe(32),
            "admin_api_key": f"c4a_{secrets.token_urlsafe(32)}",
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(json.dumps(made, indent=2))
    found: dict[str, str] = json.loads(file.read_text())
    return found
