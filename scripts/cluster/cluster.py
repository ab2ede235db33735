"""What can be done with an instance: up, deploy, down, status, and what a shell needs for it."""

import os
import shutil
import time
from difflib import get_close_matches
from pathlib import Path

import requests

from scripts.cluster import agents, jobs, links, ports, release, settings
from scripts.cluster.instance import ClusterError, Instance, installation_secrets
from scripts.tools import ensure, find

DISK_FREE_MIN_BYTES = 2 * 1024**3
GATEWAY_DEADLINE_S = 20.0
POSTGRES_USER = "postgres"


def up(instance: Instance, mode: links.Mode | None = None) -> None:
    """Start what does not run and return when all of it is healthy.

    Without a mode its links stay as they were last.
    """
    instance.folder.mkdir(parents=True, exist_ok=True)
    _require_disk(instance)
    fresh = not ports.processes_of(instance)
    links.choose(instance, mode, running=not fresh)
    proxied = links.links_of(instance)
    if proxied:
        ensure(("toxiproxy",))
    ports.require_free(instance, {f"link {link.name}": link.port for link in proxied})
    try:
        agents.start(instance)
    except ClusterError:
        if fresh:
            agents.stop_everything(instance)
        raise
    deploy(instance, None, with_infrastructure=True)
    _wait_for_gateway(instance)
    if proxied and fresh:
        links.prove(instance)


def deploy(instance: Instance, service: str | None, *, with_infrastructure: bool = False) -> None:
    """Submit a service, or all: those whose sources did not change stay as they are."""
    if not agents.running(instance):
        raise ClusterError(f"{instance.name} is not running: start it with ./scripts/just up.")
    chosen = deploy_targets(service)
    python = release.environment()
    newest = release.snapshot(instance)
    _make_folders(instance)
    settings.put_secrets(instance, python, newest)
    settings.put_defaults(instance)
    settings.put_links(instance)
    variables = settings.job_variables(instance, python)
    submission = jobs.Submission(instance, variables, links.own_variables(instance))
    proxied = links.mode_of(instance) is links.Mode.PROXIED
    # A new channel brings new links, which Kafka and Toxiproxy have to know.
    if with_infrastructure or proxied:
        external = settings.external_parts()
        settings.announce(instance, external)
        skipped = {*external, *(() if proxied else ("toxiproxy",))}
        chosen = [job for job in jobs.infrastructure() if job.name not in skipped] + chosen
    for job in chosen:
        submission.submit(job, newest)
    submission.wait(chosen)
    used = {submission.release_of(job.name) for job in jobs.services()}
    release.prune(instance, {newest, *(path for path in used if path)})


def down(instance: Instance, *, wipe: bool) -> None:
    """Stop jobs, agents and whatever else is left of an instance."""
    if agents.nomad_ready(instance):
        jobs.Submission(instance, {}).stop()
    agents.stop_everything(instance)
    if wipe:
        shutil.rmtree(instance.folder, ignore_errors=True)
        shutil.rmtree(instance.postgres_data, ignore_errors=True)


def status(instance: Instance) -> list[tuple[str, int, int, int, str]]:
    """Return a row for each job; ClusterError when the instance is not running."""
    if not agents.running(instance):
        raise ClusterError(f"{instance.name} is not running: start it with ./scripts/just up.")
    return jobs.Submission(instance, {}).table()


def log_files(instance: Instance, job: str) -> list[Path]:
    """Return the log files of a job's running allocations."""
    found: list[Path] = []
    for allocation in jobs.Submission(instance, {}).allocations(job):
        if allocation["ClientStatus"] == "running":
            folder = instance.data("nomad") / "alloc" / allocation["ID"] / "alloc" / "logs"
            for stream in ("stdout", "stderr"):
                found += sorted(folder.glob(f"*.{stream}.*"))[-1:]
    return found


def shell(instance: Instance) -> dict[str, str]:
    """Return the environment in which plain `nomad`, `consul` and API clients work."""
    own = installation_secrets(instance)
    python = release.environment()
    variables = settings.job_variables(instance, python)
    variables["release"] = str(release.snapshot(instance))
    folders = [str(path.parent) for name in ("nomad", "consul") if (path := find(name).path)]
    return {
        "PATH": os.pathsep.join(dict.fromkeys([*folders, *os.environ["PATH"].split(os.pathsep)])),
        "NOMAD_ADDR": instance.nomad_url,
        "CONSUL_HTTP_ADDR": instance.consul_url,
        "CHAT4ALL_INSTANCE": instance.name,
        "CHAT4ALL_URL": instance.url,
        "CHAT4ALL_API_KEY": own["admin_api_key"],
        "CHAT4ALL_POSTGRES_PASSWORD": own["postgres_password"],
        **{f"NOMAD_VAR_{name}": value for name, value in variables.items()},
    }


def deploy_targets(service: str | None) -> list[jobs.Job]:
    """Return the job of a service, or all; ClusterError with the nearest name for no service."""
    every = jobs.services()
    if service is None:
        return every
    names = [job.name for job in every]
    if service not in names:
        near = get_close_matches(service, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}."
        raise ClusterError(f"There is no service {service!r}; {hint}")
    return [job for job in every if job.name == service]


def _make_folders(instance: Instance) -> None:
    for part in ("kafka", "mongodb", "prometheus"):
        instance.data(part).mkdir(parents=True, exist_ok=True)
    (instance.folder / "receipts").mkdir(exist_ok=True)
    instance.postgres_data.mkdir(parents=True, exist_ok=True)
    shutil.chown(instance.postgres_data, POSTGRES_USER, POSTGRES_USER)


def _require_disk(instance: Instance) -> None:
    free = shutil.disk_usage(instance.folder).free
    if free < DISK_FREE_MIN_BYTES:
        raise ClusterError(
            f"Only {free // 1024**2} MiB are free at {instance.folder}: "
            f"make room for {DISK_FREE_MIN_BYTES // 1024**2} MiB and repeat the command."
        )


def _wait_for_gateway(instance: Instance) -> None:
    ends = time.monotonic() + GATEWAY_DEADLINE_S
    while time.monotonic() < ends:
        try:
            if requests.get(f"{instance.url}/health/ready", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(agents.POLL_S)
    raise ClusterError(
        f"The gateway does not answer at {instance.url}: look at ./scripts/just logs api-gateway."
    )
