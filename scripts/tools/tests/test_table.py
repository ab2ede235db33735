"""The table is complete, and its pins agree with the files that repeat them."""

from xml.etree import ElementTree as ET

import pytest

from scripts.tools import recipes, table
from scripts.tools.table import ON_DEMAND, PARTS, WANTED


@pytest.mark.parametrize("name", PARTS)
def test_part_is_complete(name: str) -> None:
    """Every part can be obtained, and what it needs is in the table."""
    part = PARTS[name]
    assert part.variants or part.package or name == "cargo"
    needs = {*part.needs, *(need for variant in part.variants for need in variant.needs)}
    assert needs <= set(PARTS)
    assert all(variant.seconds and variant.space_mb for variant in part.variants)


def test_wanted_parts() -> None:
    """What the platform wants is in the table, and what can wait is not asked for at once."""
    assert {*WANTED, *ON_DEMAND} <= set(PARTS)
    assert not set(WANTED) & set(ON_DEMAND)


@pytest.mark.parametrize("name", ["nomad", "consul", "toxiproxy", "go", "just", "uv"])
def test_own_version_is_tested(name: str) -> None:
    """What we install ourselves is a version we would accept on PATH."""
    part = PARTS[name]
    assert part.variants[0].version in part.accepted


@pytest.mark.parametrize(
    ("name", "module", "version"),
    [
        ("nomad", "hashicorp/nomad", table.NOMAD),
        ("consul", "hashicorp/consul", table.CONSUL),
        ("toxiproxy", "Shopify/toxiproxy/v2", table.TOXIPROXY),
    ],
)
def test_go_module_pins(name: str, module: str, version: str) -> None:
    """A wrapper module builds the version that the table names."""
    text = (recipes.HERE / name / "go.mod").read_text()
    assert f"github.com/{module} v{version} " in text
    assert (recipes.HERE / name / "go.sum").exists()


def test_kafka_pin() -> None:
    """The jars are of the version that the table names."""
    pom = ET.parse(recipes.HERE / "kafka" / "pom.xml")  # noqa: S314 - our own file
    assert pom.findtext("{http://maven.apache.org/POM/4.0.0}version") == table.KAFKA
