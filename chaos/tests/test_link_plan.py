"""A link is broken only where it carries the load that is to feel it."""

from types import SimpleNamespace
from typing import cast

import pytest

from chaos.faults import link
from chaos.faults.cut import Cut
from chaos.stage import Refused, Stage


class Carrier:
    """A Toxiproxy whose one proxy carries so much more at every look."""

    url = "http://127.0.0.1:1"

    def __init__(self, bytes_each: int) -> None:
        self._bytes_each = bytes_each
        self._carried = 0

    async def require(self, name: str) -> None:
        """Have every proxy."""
        assert name == "connector-red--provider-red"

    async def carried(self, name: str) -> float:
        """Tell how much it has carried so far."""
        del name
        self._carried += self._bytes_each
        return self._carried

    async def definition(self, job: str) -> None:
        """Allow everything."""


def stage(carrier: Carrier, *, loaded: bool) -> Stage:
    """Return the surroundings that a link needs."""

    async def toxiproxy() -> Carrier:
        return carrier

    platform = SimpleNamespace(nomad=carrier, toxiproxy=toxiproxy)
    made = Stage(
        platform=cast("object", platform),  # type: ignore[arg-type]
        recorder=cast("object", None),  # type: ignore[arg-type]
        observers=cast("object", None),  # type: ignore[arg-type]
        channels=["RED"],
        groups={},
        min_survivors=0,
    )
    if loaded:
        made.begin(0)
    return made


CUT = Cut(service="connector-{channel}", dependency="provider-{channel}")


async def test_an_idle_link_may_be_planned_but_not_broken_under_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the load nothing need flow; once there is one, a link it does not take is refused."""
    monkeypatch.setattr(link, "TRAFFIC_DEADLINE_S", 0.05)
    assert [t.link for t in await CUT.plan(stage(Carrier(0), loaded=False))]
    with pytest.raises(Refused, match="links are not proxied, or nobody uses this one"):
        await CUT.plan(stage(Carrier(0), loaded=True))


async def test_a_link_that_carries_the_load_is_taken() -> None:
    """The bytes of a proxy rise under load."""
    assert [t.link for t in await CUT.plan(stage(Carrier(10), loaded=True))] == [
        "connector-red--provider-red"
    ]
