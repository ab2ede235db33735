"""The jobs of an instance: what each runs from, how it is submitted, and when it is healthy."""

import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nomad
import requests

from scripts.cluster import release
from scripts.cluster.instance import ROOT, ClusterError, Instance
from scripts.tools import find
from scripts.tools.command import say

HEALTHY_DEADLINE_S = 120.0
STOPPED_DEADLINE_S = 45.0
POLL_S = 0.2
LOG_LINES = 20
CONNECTORS = ROOT / "services" / "connectors"


@dataclass(frozen=True)
class Job:
    """One Nomad job: its file, the variables of its own, and the sources it runs from."""

    name: str
    file: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


def infrastructure() -> list[Job]:
    """Return the jobs that services depend on."""
    return [Job(f.name.split(".")[0], f) for f in sorted((ROOT / "jobs/infra").glob("*.hcl"))]


def channels() -> list[str]:
    """Return the channels there are: each folder with a connector."""
    return sorted(path.parent.name for path in CONNECTORS.glob("*/connector.py"))


def services() -> list[Job]:
    """Return the platform's own jobs, and the simulated providers of its channels."""
    shared = {"connector.nomad.hcl", "provider.nomad.hcl"}
    jobs = [
        Job(name, file, sources=(name.replace("-", "_"),))
        for file in sorted((ROOT / "jobs").glob("*.nomad.hcl"))
        if file.name not in shared
        for name in [file.name.split(".")[0]]
    ]
    base = tuple(f"connectors/{path.name}" for path in sorted(CONNECTORS.glob("*.py")))
    for channel in channels():
        sources = (*base, "connectors/migrations", f"connectors/{channel}")
        for kind in ("connector", "provider"):
            file = ROOT / "jobs" / f"{kind}.nomad.hcl"
            jobs.append(Job(f"{kind}-{channel}", file, _own_variables(kind, channel), sources))
    return jobs


def _own_variables(kind: str, channel: str) -> dict[str, str]:
    variables = {"channel": channel}
    if kind == "connector":
        variables["provider_url"] = f"consul://provider-{channel}"
        variables["quota_profile"] = "high-quota"
    return variables


def client(instance: Instance) -> nomad.Nomad:
    """Return Nomad's API."""
    return nomad.Nomad(address=instance.nomad_url, timeout=10)


class Submission:
    """Submits jobs to an instance and waits for them."""

    def __init__(
        self,
        instance: Instance,
        variables: Mapping[str, str],
        own: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Take the variables of all job files, and by job's name those of its own."""
        self._instance = instance
        self._variables = variables
        self._own = own or {}
        self._nomad = client(instance)

    def submit(self, job: Job, newest: Path) -> None:
        """Register a job; one whose sources are the same keeps its release, and so is unchanged."""
        own = {**job.variables, **self._own.get(job.name, {})}
        variables = {**self._variables, **own, "release": str(newest)}
        old = self.release_of(job.name)
        if old is not None and old.exists() and release.same_for(job.sources, old, newest):
            variables["release"] = str(old)
        settings = {f"NOMAD_VAR_{name}": value for name, value in variables.items()}
        command = [str(find("nomad").path), "job", "run", "-detach", "-preserve-counts"]
        result = subprocess.run(
            [*command, str(job.file)],
            env={**os.environ, "NOMAD_ADDR": self._instance.nomad_url, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ClusterError(
                f"Nomad refused the job {job.name}: {result.stderr.strip() or result.stdout}"
            )

    def release_of(self, name: str) -> Path | None:
        """Return the release that a registered job runs from."""
        definition = self._definition(name)
        if definition is None or definition["Stop"]:
            return None
        environment = definition["TaskGroups"][0]["Tasks"][0]["Env"] or {}
        path = environment.get("PYTHONPATH")
        return Path(path) if path else None

    def wait(self, jobs: Iterable[Job]) -> None:
        """Return when all jobs are healthy; ClusterError with the story of one that is not."""
        waiting = list(jobs)
        rolling: set[str] = set()
        ends = time.monotonic() + HEALTHY_DEADLINE_S
        while waiting:
            for job in list(waiting):
                state = self._rollout(job.name)
                if state == "running":
                    rolling.add(job.name)
                if state == "failed" and job.name in rolling:
                    raise ClusterError(self._story(job.name, "its deployment failed"))
                if state != "running" and self._healthy(job.name):
                    waiting.remove(job)
                    rest = ", ".join(other.name for other in waiting)
                    say(f"  {job.name} is healthy" + (f"; waiting for {rest}" if rest else ""))
            if waiting and time.monotonic() > ends:
                reason = f"it was not healthy within {HEALTHY_DEADLINE_S:.0f} s"
                raise ClusterError(self._story(waiting[0].name, reason))
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop every job and return when none of their tasks runs any more."""
        names = [job["ID"] for job in self._nomad.jobs.get_jobs()]
        for name in names:
            self._nomad.job.deregister_job(name)
        ends = time.monotonic() + STOPPED_DEADLINE_S
        while any(self._running(name) for name in names) and time.monotonic() < ends:
            time.sleep(POLL_S)

    def table(self) -> list[tuple[str, int, int, int, str]]:
        """Return name, wanted, healthy, version and addresses of every job."""
        rows = []
        for listed in sorted(self._nomad.jobs.get_jobs(), key=lambda job: str(job["ID"])):
            definition = self._definition(listed["ID"])
            if definition is None or definition["Stop"]:
                continue
            found = self._passing(listed["ID"])
            wanted = definition["TaskGroups"][0]["Count"]
            addresses = ", ".join(sorted(found))
            rows.append((listed["ID"], wanted, len(found), definition["Version"], addresses))
        return rows

    def allocations(self, name: str) -> list[dict[str, Any]]:
        """Return a job's allocations, the newest first; ClusterError when there is no such job."""
        if self._definition(name) is None:
            known = ", ".join(str(job["ID"]) for job in self._nomad.jobs.get_jobs())
            raise ClusterError(f"There is no job {name!r} here; there are: {known}.")
        found: list[dict[str, Any]] = self._nomad.job.get_allocations(name)
        return sorted(found, key=lambda allocation: -int(allocation["CreateIndex"]))

    def _definition(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._nomad.job.get_job(name)
        except nomad.api.exceptions.URLNotFoundNomadException:
            return None
        return found

    def _running(self, name: str) -> bool:
        return any(
            allocation["ClientStatus"] in ("running", "pending")
            for allocation in self._nomad.job.get_allocations(name)
        )

    def _rollout(self, name: str) -> str:
        """Return the status of the deployment of a job's current version, `none` without one."""
        deployment = self._nomad.job.get_deployment(name)
        definition = self._definition(name)
        if not deployment or definition is None:
            return "none"
        if deployment["JobVersion"] != definition["Version"]:
            return "running"
        return str(deployment["Status"])

    def _healthy(self, name: str) -> bool:
        """Tell whether as many instances as wanted pass their checks."""
        definition = self._definition(name)
        if definition is None:
            return False
        return len(self._passing(name)) >= int(definition["TaskGroups"][0]["Count"])

    def _passing(self, name: str) -> list[str]:
        url = f"{self._instance.consul_url}/v1/health/service/{name}"
        answer = requests.get(url, params={"passing": "true"}, timeout=5)
        answer.raise_for_status()
        return [f"{e['Service']['Address']}:{e['Service']['Port']}" for e in answer.json()]

    def _story(self, name: str, reason: str) -> str:
        """Tell what Nomad and the task itself say about a job that is not healthy."""
        lines = [f"{name} is not healthy: {reason}. What Nomad and the task say of it:"]
        for allocation in self.allocations(name)[:1]:
            for task, state in (allocation["TaskStates"] or {}).items():
                lines += [f"  event  {e['DisplayMessage']}" for e in state["Events"][-6:]]
                for stream in ("stdout", "stderr"):
                    text = self.log(allocation["ID"], task, stream)
                    lines += [f"  {stream}  {line[:300]}" for line in text]
        lines.append(
            f"Mend it and repeat the command, or stop all: {self._instance.down_command()}"
        )
        return "\n".join(lines)

    def log(self, allocation: str, task: str, stream: str) -> list[str]:
        """Return the last lines that a task wrote."""
        files = self._instance.data("nomad") / "alloc" / allocation / "alloc" / "logs"
        found = sorted(files.glob(f"{task}.{stream}.*"), key=lambda file: file.stat().st_mtime)
        return found[-1].read_text(errors="replace").splitlines()[-LOG_LINES:] if found else []
