"""The command line of the local cluster."""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scripts.cluster import cluster, links
from scripts.cluster.instance import ClusterError, Instance, find
from scripts.tools import MissingTool
from scripts.tools.command import say

Named = Annotated[str | None, typer.Argument(help="dev (the default) or test")]
Links = Annotated[
    links.Mode | None,
    typer.Option(
        "--links",
        help="How services reach what they depend on: straight, or each through a proxy of its own "
        "in Toxiproxy that a fault can be put on. Kept for the instance; at first direct.",
    ),
]
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@contextmanager
def told(name: str | None) -> Iterator[Instance]:
    """Lend an instance; a problem is told in one sentence and ends the command with 1."""
    try:
        yield find(name)
    except (ClusterError, MissingTool) as error:
        say(str(error))
        raise typer.Exit(1) from error


@app.command()
def up(name: Named = None, mode: Links = None) -> None:
    """Start the cluster, or what of it does not run; wait until all is healthy."""
    with told(name) as instance:
        started = time.monotonic()
        cluster.up(instance, mode)
        say(f"{instance.name} is up after {time.monotonic() - started:.1f} s")
        _links(instance)


@app.command()
def deploy(service: Annotated[str | None, typer.Argument()] = None) -> None:
    """Bring the sources as they are now to one service, or to all whose sources changed."""
    with told(None) as instance:
        started = time.monotonic()
        cluster.deploy(instance, service)
        say(f"live after {time.monotonic() - started:.1f} s")


@app.command()
def down(name: Named = None, *, wipe: bool = False) -> None:
    """Stop everything; the data stays, unless --wipe is given."""
    with told(name) as instance:
        cluster.down(instance, wipe=wipe)
        say(f"{instance.name} is down" + (", its data is gone" if wipe else ", its data is kept"))


@app.command()
def status(name: Named = None) -> None:
    """Show every job: wanted, healthy, version, addresses; and the links."""
    with told(name) as instance:
        table = Table("job", "wanted", "healthy", "version", "addresses")
        for job, wanted, healthy, version, addresses in cluster.status(instance):
            colour = "green" if healthy >= wanted else "red"
            table.add_row(job, str(wanted), f"[{colour}]{healthy}[/]", str(version), addresses)
        Console().print(table)
        _links(instance)


@app.command(name="links")
def show_links(name: Named = None) -> None:
    """Show what each proxied link carried so far; fail when one carried nothing yet."""
    with told(name) as instance:
        table = Table("link", "from", "to", "bytes there", "bytes back")
        carried = links.carried(instance)
        for link in links.links_of(instance):
            there, back = carried[link.name]
            upstream = links.upstream(instance, link)
            table.add_row(link.name, link.address, upstream, str(there), str(back))
        Console().print(table)
        links.prove(instance, deadline_s=0)


@app.command()
def logs(job: str, *, follow: Annotated[bool, typer.Option("-f", "--follow")] = False) -> None:
    """Print the last log lines of a job's allocations."""
    with told(None) as instance:
        command = ["tail", "-n", "50", *(["-F"] if follow else [])]
        subprocess.run([*command, *map(str, cluster.log_files(instance, job))], check=False)


@app.command()
def env(name: Named = None) -> None:
    """Print what a shell needs to use nomad, consul and the API: eval it."""
    with told(name) as instance:
        for key, value in cluster.shell(instance).items():
            sys.stdout.write(f"export {key}={shlex.quote(value)}\n")


def _links(instance: Instance) -> None:
    say(f'  API        {instance.url}/api/v1   key: eval "$(./scripts/just env {instance.name})"')
    say(f"  Nomad UI   {instance.nomad_url}/ui")
    say(f"  Consul UI  {instance.consul_url}/ui")
    say(f"  Prometheus {instance.prometheus_url}/graph")


if __name__ == "__main__":
    app()
