"""What the README claims in tables is what the code has."""

import re
from typing import Any

import pytest

from services.connectors import registry
from services.tests.test_tidy import ROOT, is_test, sources

README = (ROOT / "README.md").read_text()
JUSTFILE = (ROOT / "Justfile").read_text()
METRIC = re.compile(r'(Counter|Gauge|Histogram)\(\n?\s*"(chat4all_\w+)",(.*?)\n\)', re.DOTALL)
UNITS = {
    "Counter": ("total",),
    "Gauge": ("deliveries", "records", "peers"),
    "Histogram": ("seconds",),
}


def metrics() -> list[tuple[str, str, list[str]]]:
    """Return kind, name and labels of every metric in the sources."""
    return [
        (kind, name, re.findall(r'"(\w+)"[,\]]', arguments.rpartition("[")[2]))
        for path in sources("services")
        if not is_test(path)
        for kind, name, arguments in METRIC.findall(path.read_text())
    ]


def test_every_metric_is_in_the_table_and_no_other() -> None:
    """Each with the labels that it has."""
    written = {
        f"`{name}{{{','.join(labels)}}}`" if labels else f"`{name}`"
        for _, name, labels in metrics()
    }
    assert written == set(re.findall(r"`chat4all_[a-z_]+(?:\{[a-z,]+\})?`", README))


@pytest.mark.parametrize(("kind", "name", "_labels"), metrics())
def test_metrics_are_named_by_convention(kind: str, name: str, _labels: list[str]) -> None:
    """A metric ends with its unit, a counter with `total`."""
    assert name.rpartition("_")[2] in UNITS[kind]


@pytest.mark.parametrize("channel", registry.names())
def test_every_channel_is_in_the_table(channel: str) -> None:
    """With its receipts, its limit of a text and what its provider takes."""
    connector = class_of(channel)
    limits, can = connector.limits, connector.capabilities
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {connector.name} |")]
    _, _, receipts, text, quota, *_ = [cell.strip() for cell in line.split("|")]
    assert receipts == ", ".join(can.receipts)
    assert text.startswith(f"{can.text_length_max:,} ")
    assert quota.startswith(f"{limits.account_per_s:g}/s")
    assert quota.endswith(f"1 per {limits.recipient_interval_s:g} s")


def class_of(channel: str) -> Any:
    """Return a channel's connector, not made yet."""
    create = registry.load(channel).create
    return create.__annotations__["return"]


def test_the_commands_exist() -> None:
    """Every `just` command that the README names is one."""
    recipes = set(re.findall(r"^([a-z-]+)[^:=\n]*:", JUSTFILE, re.MULTILINE))
    named = set(re.findall(r"\./scripts/just ([a-z-]+)", README))
    assert named <= recipes
