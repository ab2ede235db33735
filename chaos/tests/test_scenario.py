"""Scenarios are read with their units, and mistakes in them are told with the nearest name."""

from pathlib import Path

import pytest

from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.scenario import BadScenario, load, load_all, names
from chaos.units import PerSecond, Seconds, read, show

BASE = 'title = "t"\nhypothesis = "h"\ntier = 1\n'


def test_every_scenario_can_be_read_and_says_what_it_expects() -> None:
    """Each has a title and a hypothesis of one sentence, and tier 1 has the headline ones."""
    found = load_all()
    for scenario in found:
        assert scenario.title
        assert scenario.hypothesis.endswith(".")
        assert scenario.hypothesis.count(". ") == 0, scenario.name
    first = {scenario.name for scenario in found if scenario.tier == 1}
    assert {"baseline", "kill-router", "pause-router", "kept-but-answer-lost"} <= first
    assert len([scenario for scenario in found if scenario.smoke]) == 6


def test_a_scenario_holds_what_it_extends() -> None:
    """Tables are merged, the rest is replaced, units are understood."""
    found = load("kill-router")
    assert found.promise.failover == 60.0
    assert found.goal.failover_worst == 0.5
    assert found.workload.rate == 200.0
    assert isinstance(found.faults[0], Kill)
    assert found.faults[0].job == "router"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('titel = "t"', "did you mean title?"),
        ('[promise]\nfailovr = "1s"', "did you mean failover?"),
        ('[[faults]]\nkind = "kil"', "did you mean kill?"),
        ('[[faults]]\nkind = "kill"\njob = "router"\nselct = "one"', "did you mean select?"),
        ('[[faults]]\nkind = "kill"\njob = "router"\nselect = "some"', "Invalid enum value"),
        ('[promise]\nfailover = "60"', "no duration"),
        ('[workload]\nrate = "200"', "no rate"),
        ('must_happen = ["rebalance => 1"]', "no condition"),
        ('extends = "x"', "extends itself"),
        ("title =", "Invalid value"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, text: str, said: str) -> None:
    """Unknown keys, kinds, values and units are refused in one sentence."""
    before, header = ("", BASE) if text.startswith("[") else (text + "\n", BASE)
    header = header.replace('title = "t"\n', "") if "tit" in text else header
    after = text if text.startswith("[") else ""
    (tmp_path / "x.toml").write_text(f"{before}{header}{after}")
    with pytest.raises(BadScenario, match=r"^x") as refused:
        load("x", tmp_path)
    assert said in str(refused.value)


def test_an_unknown_scenario_is_told_with_the_nearest_name() -> None:
    """A typing mistake is understood."""
    with pytest.raises(BadScenario, match="did you mean kill-router"):
        load("kil-router")
    with pytest.raises(BadScenario, match="there are latency-api-gateway-redis-100ms, ") as refused:
        load("latency")
    assert "kill" not in str(refused.value)
    assert "_base" not in names()


def test_a_scenario_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    """It may extend its neighbours and the scenarios of the suite, and mistakes in it are told."""
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "base"\ntitle = "Mine"')
    (tmp_path / "base.toml").write_text('extends = "pause-router"\n[workload]\nrate = "7/s"')
    found = load(str(mine))
    assert (found.name, found.title, found.workload.rate) == ("mine", "Mine", 7.0)
    assert found.promise.detection == 60.0
    mine.write_text('extends = "pause-ruter"')
    with pytest.raises(BadScenario, match="'pause-ruter': did you mean pause-router"):
        load(str(mine))
    with pytest.raises(BadScenario, match="there is no scenario 'yours'"):
        load(str(tmp_path / "yours.toml"))


EACH = """
title = "{delay} on {link}, and {this} stays"
hypothesis = "h."
tier = 1

[[faults]]
kind = "latency"
service = "{link}"
dependency = "kafka-{channel}"
delay = "{delay}"

[each.link]
one = { link = "router" }
two = { link = "message" }

[each.delay]
100ms = { delay = "100ms" }
5s = { delay = "5s" }
"""


def test_one_file_may_stand_for_several_scenarios(tmp_path: Path) -> None:
    """Each combination has its name and its words; a file of that name goes before it."""
    (tmp_path / "slow.toml").write_text(EACH)
    (tmp_path / "slow-two-5s.toml").write_text(f"{BASE}smoke = true")
    wanted = ["slow-one-100ms", "slow-one-5s", "slow-two-100ms", "slow-two-5s"]
    assert names(tmp_path) == wanted
    found = {each.name: each for each in load_all(tmp_path)}
    assert found["slow-one-5s"].title == "5s on router, and {this} stays"
    fault = found["slow-two-100ms"].faults[0]
    assert isinstance(fault, Latency)
    assert (fault.service, fault.dependency, fault.delay) == ("message", "kafka-{channel}", 0.1)
    assert found["slow-two-5s"].smoke
    with pytest.raises(BadScenario, match="'slow': there are slow-one-100ms, "):
        load("slow", tmp_path)
    (tmp_path / "slow.toml").write_text('[each]\nlink = "x"')
    with pytest.raises(BadScenario, match="slow: its table each: Expected `object`"):
        load("slow-one-5s", tmp_path)


def test_every_link_can_be_slow() -> None:
    """Each of a service's ways to what it depends on has its three delays."""
    links = {"api-gateway-redis", "message-kafka", "message-mongodb", "router-kafka"}
    links |= {"user-postgres", "connector-kafka", "connector-postgres", "connector-provider"}
    assert {f"latency-{link}-{delay}" for link in links for delay in ("100ms", "1s", "5s")} == {
        name for name in names() if name.startswith("latency-")
    }


def test_quantities_are_read_and_shown() -> None:
    """Durations and rates know their units."""
    assert read(Seconds, "500ms") == 0.5
    assert read(Seconds, "2m") == 120.0
    assert read(PerSecond, "60/m") == 1.0
    assert [show(s) for s in (0.0, 0.0645, 2.5, 60)] == ["0 ms", "64 ms", "2.50 s", "60 s"]
