"""The job files: valid for both drivers, alike where they must be; and the image they run."""

import json
from pathlib import Path

import pytest

from jobs.tests.parsed import CHANNEL, JOBS, Parsed, group_of, job, nomad, task_of
from services.runtime.cores import AUTOGROUP, USUAL_SHARE_MHZ, nice_of

ROOT = JOBS.parent
SERVICES = sorted(path.name.removesuffix(".nomad.hcl") for path in JOBS.glob("*.nomad.hcl"))
INFRASTRUCTURE = {
    "kafka": 2,
    "mongodb": 1,
    "postgres": 1,
    "prometheus": 1,
    "redis": 1,
    "toxiproxy": 1,
}
"""How many fixed ports each part has."""
OWN_ENVIRONMENT = {
    "api-gateway": {"PUBLIC_PORT": "8080"},
    "connector": {
        "CHANNEL": CHANNEL,
        "PROVIDER_URL": "consul://provider",
        "WEBHOOK_URL": "https://gateway.test/webhooks/pigeon",
        "QUOTA_PROFILE": "high-quota",
    },
    "provider": {
        "WEBHOOK_URL": "consul://api-gateway/webhooks/pigeon/{account}",
        "RECEIPTS_PATH": "/receipts/pigeon.jsonl",
        "QUOTA_PROFILE": "high-quota",
    },
}
SHARES_MHZ = {"api-gateway": 300, "message": 300, "connector": 32}
"""Who has another share of full cores than `cores.USUAL_SHARE_MHZ`."""
LIFELINES = ("router", "connector", "message")
MODULES = {"connector": "connectors", "provider": f"connectors.{CHANNEL}.simulator"}


def shape(name: str, driver: str) -> Parsed:
    """Return a service's job without its name and without what may differ among services."""
    found = job(name, driver=driver)
    copy: Parsed = json.loads(json.dumps(found).replace(found["ID"], "SERVICE"))
    (group,) = copy["TaskGroups"]
    (task,) = group["Tasks"]
    del copy["Update"], group["Count"], task["Name"], task["Config"], task["Env"]
    del group["Networks"], task["Services"][1:], task["Resources"]["CPU"]
    return copy


def test_files_are_formatted() -> None:
    """Every job file is as `nomad fmt` writes it."""
    nomad("fmt", "-check", "-recursive", str(JOBS))


@pytest.mark.parametrize("driver", ["raw_exec", "docker"])
def test_services_are_alike(driver: str) -> None:
    """Restarts, checks, secrets, limits and ways to stop are the same in every service's file."""
    first = shape(SERVICES[0], driver)
    for name in SERVICES[1:]:
        assert shape(name, driver) == first, name


@pytest.mark.parametrize("name", SERVICES)
def test_who_is_waited_for_goes_first(name: str) -> None:
    """Full cores go to those whose answers are waited for before those that work off a queue."""
    share_mhz = task_of(job(name))["Resources"]["CPU"]
    assert share_mhz == SHARES_MHZ.get(name, USUAL_SHARE_MHZ)


@pytest.mark.parametrize("name", ["kafka", "mongodb"])
def test_a_foreign_part_takes_the_share_that_its_job_gives(name: str) -> None:
    """It is no service of ours, so what starts it does what a service does by itself."""
    task = task_of(job(f"infra/{name}"))
    assert f"echo {nice_of(task['Resources']['CPU'])} > {AUTOGROUP}" in task["Config"]["args"][1]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_be_found_checked_and_broken(name: str) -> None:
    """It stands in Consul under its job's name with both checks, and says if it may be hurt."""
    found = job(name)
    service, *_ = task_of(found)["Services"]
    assert (service["Name"], service["Provider"]) == (found["ID"], "consul")
    ready, live = service["Checks"]
    assert (ready["Path"], ready["CheckRestart"]) == ("/health/ready", None)
    assert (live["Path"], live["CheckRestart"]["Limit"]) == ("/health/live", 3)
    assert found["Meta"] == {"chaos": "allowed"}
    assert group_of(found)["Name"] == "app"


@pytest.mark.parametrize("name", SERVICES)
def test_members_of_consumer_groups_have_lifelines(name: str) -> None:
    """Peers find a port of its own in Consul, and no check ever connects to it."""
    found = job(name)
    lifelines = task_of(found)["Services"][1:]
    (network,) = group_of(found)["Networks"]
    labels = {port["Label"] for port in network["DynamicPorts"] or ()}
    if name not in LIFELINES:
        assert (lifelines, "lifeline" in labels) == ([], False)
        return
    (lifeline,) = lifelines
    assert (lifeline["Name"], lifeline["PortLabel"]) == (f"{found['ID']}-lifeline", "lifeline")
    assert [check["PortLabel"] for check in lifeline["Checks"]] == ["http"]
    assert "lifeline" in labels


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_told_who_it_is(name: str) -> None:
    """Every process gets the same variables, a few its own; secrets come from Nomad's alone."""
    found = job(name)
    task = task_of(found)
    assert task["Env"] == {
        "SERVICE_NAME": found["ID"],
        "INSTANCE_ID": "${NOMAD_ALLOC_ID}",
        "HTTP_HOST": "${NOMAD_IP_http}",
        "HTTP_PORT": "${NOMAD_PORT_http}",
        "CONSUL_HTTP_ADDR": "http://consul:1",
        **({"LIFELINE_PORT": "${NOMAD_PORT_lifeline}"} if name in LIFELINES else {}),
        "PYTHONPATH": "/release",
        **OWN_ENVIRONMENT.get(name, {}),
    }
    (template,) = task["Templates"]
    assert template["DestPath"].startswith("secrets/")
    assert f'nomadVarExists "nomad/jobs/{found["ID"]}"' in template["EmbeddedTmpl"]


@pytest.mark.parametrize("name", SERVICES)
def test_both_drivers_run_the_same_module(name: str) -> None:
    """On one machine the environment's Python runs it, on a real cluster the image's."""
    arguments = ["-m", f"services.{MODULES.get(name, name.replace('-', '_'))}"]
    assert task_of(job(name, driver="raw_exec"))["Config"] == {
        "command": "/env/bin/python",
        "args": arguments,
    }
    assert task_of(job(name, driver="docker"))["Config"] == {
        "image": "chat4all:1",
        "command": "python",
        "args": arguments,
        "network_mode": "host",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_release_takes_over_when_it_is_healthy(name: str) -> None:
    """New instances start beside the old ones; what does not become healthy is taken back."""
    found = job(name)
    update, count = found["Update"], group_of(found)["Count"]
    assert update["AutoRevert"]
    assert update["MaxParallel"] == count
    if name == "provider":
        assert (update["Canary"], update["AutoPromote"]) == (None, None)
    else:
        assert (update["Canary"], update["AutoPromote"]) == (count, True)


def test_no_public_port_is_an_empty_one() -> None:
    """The gateway reads an empty port as none."""
    environment = task_of(job("api-gateway", public_port="0"))["Env"]
    assert environment["PUBLIC_PORT"] == ""


@pytest.mark.parametrize(("name", "ports"), INFRASTRUCTURE.items())
def test_infrastructure_has_fixed_ports(name: str, ports: int) -> None:
    """A part stands in Consul under its own name, on ports that no second one could share."""
    found = job(f"infra/{name}")
    (network,) = group_of(found)["Networks"]
    assert len(network["ReservedPorts"]) == ports
    assert found["Update"]["Canary"] is None
    (service,) = task_of(found)["Services"]
    assert service["Name"] == found["ID"] == name
    assert [check["Type"] for check in service["Checks"]] == ["tcp"]
    assert found["Meta"] == {"chaos": "allowed"}


def test_every_part_is_tested() -> None:
    """No infrastructure's file is left out of what these tests hold."""
    files = {path.name.removesuffix(".nomad.hcl") for path in (JOBS / "infra").glob("*.hcl")}
    assert files == set(INFRASTRUCTURE)


def reserved(found: Parsed) -> dict[str, int]:
    """Return a job's fixed ports by label."""
    (network,) = group_of(found)["Networks"]
    return {port["Label"]: port["Value"] for port in network["ReservedPorts"] or ()}


def test_kafka_has_a_listener_for_each_proxied_link() -> None:
    """A client that came through its proxy is told the proxy's address, the others Kafka's own."""
    links = [{"service": "connector-pigeon", "port": 7500, "entry": 7501}]
    found = job("infra/kafka", kafka_links=json.dumps(links))
    (template,) = task_of(found)["Templates"]
    settings = dict(line.split("=", 1) for line in template["EmbeddedTmpl"].splitlines())
    assert settings["listeners"].split(",") == [
        "CONTROLLER://127.0.0.1:7093",
        "CLIENT://127.0.0.1:7092",
        "CONNECTOR_PIGEON://127.0.0.1:7501",
    ]
    assert settings["advertised.listeners"].split(",") == [
        "CLIENT://127.0.0.1:7092",
        "CONNECTOR_PIGEON://127.0.0.1:7500",
    ]
    assert "CONNECTOR_PIGEON:PLAINTEXT" in settings["listener.security.protocol.map"].split(",")
    assert reserved(found) == {"broker": 7092, "controller": 7093, "connector-pigeon": 7501}


def test_toxiproxy_starts_with_every_proxy() -> None:
    """Its file has all links, so that it comes back with them after its death."""
    links = [{"name": "router--kafka", "port": 7502, "upstream": "127.0.0.1:7503"}]
    found = job("infra/toxiproxy", links=json.dumps(links))
    (template,) = task_of(found)["Templates"]
    assert json.loads(template["EmbeddedTmpl"]) == [
        {
            "name": "router--kafka",
            "listen": "127.0.0.1:7502",
            "upstream": "127.0.0.1:7503",
            "enabled": True,
        }
    ]
    assert reserved(found) == {"api": 8474, "router--kafka": 7502}


def test_a_provider_behind_a_proxy_has_a_fixed_port() -> None:
    """The proxy leads to one port; without a proxy Nomad chooses."""
    assert reserved(job("provider", http_port="7507")) == {"http": 7507}
    assert reserved(job("provider")) == {}


def test_prometheus_scrapes_what_consul_knows() -> None:
    """The instances come from Consul by the tag that every service has, ready or not."""
    settings, instances = task_of(job("infra/prometheus"))["Templates"]
    file = Path(instances["DestPath"])
    assert Path(settings["DestPath"]).parent == file.parent
    assert f"files: [{file.name}]" in settings["EmbeddedTmpl"]
    service, lifeline = task_of(job("router"))["Services"]
    assert not lifeline["Tags"]
    assert f'.Tags | contains "{service["Tags"][0]}"' in instances["EmbeddedTmpl"]
    assert 'service (print .Name "|any")' in instances["EmbeddedTmpl"]


@pytest.mark.parametrize("flavour", ["secantus", "secantus-wheel"])
def test_a_stand_in_keeps_what_it_acknowledged(flavour: str) -> None:
    """MongoDB itself syncs what is written with `j=true`; the stand-ins have to be told."""
    task = task_of(job("infra/mongodb", mongodb_flavour=flavour))
    assert "--sync-on-commit" in task["Config"]["args"]
    assert "transaction_sync=(enabled=true" in task["Env"]["SECANTUS_WT_CONFIG_EXTRA"]
    assert "--sync-on-commit" not in task_of(job("infra/mongodb"))["Config"]["args"]


def test_the_image_holds_what_the_jobs_run() -> None:
    """It is made from files that exist, with the services where the jobs look for them."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    folder = next(words[1] for words in lines if words[:1] == ["WORKDIR"])
    for words in lines:
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            assert all((ROOT / source).exists() for source in words[1:-1])
    for name in SERVICES:
        assert f'default     = "{folder}"' in (JOBS / f"{name}.nomad.hcl").read_text()
