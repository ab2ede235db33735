"""What grows over a campaign is taken off its hands after each repeat, and nothing is missed."""

from pathlib import Path
from typing import cast
from unittest.mock import AsyncMock

import pytest

from chaos import archive
from chaos.aftermath import Aftermath
from chaos.clock import Clock
from chaos.history import Receipt
from chaos.observations import Interval, Kind, Source
from chaos.pulse import Witness
from chaos.recorder import Recorder
from chaos.verdicts import Valid


class FakeWitness:
    """Has the receipts that come."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.coming: list[Receipt] = []

    async def catch_up(self) -> list[Receipt]:
        """Take in what has come."""
        fresh, self.coming = self.coming, []
        self.receipts += fresh
        return fresh


def receipt(text: str, *, kept: bool = True) -> Receipt:
    """Return what the provider was sent."""
    return Receipt(seq=1, received_at=1.0, answered_at=1.0, to="1", text=text, kept=kept)


ONE, OTHER = "a lane 0", "a lane 1"


@pytest.mark.parametrize(
    ("in_time", "meanwhile", "at_last", "doubled"),
    [
        ([ONE, OTHER], [], [], 0),
        ([ONE, OTHER], [ONE], [], 1),
        ([ONE, OTHER], [], [ONE], 1),
        ([ONE, OTHER], [ONE], [ONE], 1),
        ([ONE, OTHER], [ONE], [OTHER], 2),
        ([ONE, ONE], [], [ONE], 0),
        ([OTHER], [ONE], [], 0),
        ([OTHER], [ONE], [ONE], 1),
    ],
)
async def test_what_is_delivered_again_after_it_was_judged_is_found(
    tmp_path: Path, in_time: list[str], meanwhile: list[str], at_last: list[str], doubled: int
) -> None:
    """A late second copy counts, in the next repeat or at the end, unless it was judged before.

    What was refused, what belongs to the repeat that runs, and strangers do not count.
    """
    witness = FakeWitness()
    aftermath = Aftermath(tmp_path, [cast("Witness", witness)])
    witness.receipts = [receipt(text) for text in in_time]
    archive.append_history(tmp_path, 1, [], witness.receipts)
    aftermath.judged("a")
    assert not witness.receipts
    own = [receipt("b lane 0")]
    witness.receipts = [*own, *map(receipt, meanwhile)]
    archive.append_history(tmp_path, 2, [], own)
    aftermath.judged("b")
    others = [receipt(ONE, kept=False), receipt("hello"), receipt("hello")]
    witness.coming = [*others, *map(receipt, at_last)]
    verdict = await aftermath.verdict()
    assert (verdict is not None) == (doubled > 0)
    if verdict is not None:
        assert verdict.valid is Valid.FALSE
        assert verdict.reason.startswith(f"{doubled} ")


async def test_what_nobody_could_look_for_is_unknown(tmp_path: Path) -> None:
    """A witness that does not answer at the end vouches for nothing."""
    witness = FakeWitness()
    witness.catch_up = AsyncMock(side_effect=TimeoutError)  # type: ignore[method-assign]
    verdict = await Aftermath(tmp_path, [cast("Witness", witness)]).verdict()
    assert verdict is not None
    assert verdict.valid is Valid.UNKNOWN


def test_observations_that_were_taken_are_kept_no_longer() -> None:
    """Numbers go on over all repeats, so that each stays the number of its line."""
    recorder = Recorder(Clock())

    def see(at: float) -> int:
        return recorder.see(Source.NOMAD, Kind.STARTED, Interval(at, at)).number

    assert [see(1.0), see(2.0)] == [1, 2]
    assert [o.number for o in recorder.since(2.0)] == [2]
    assert [o.number for o in recorder.take()] == [1, 2]
    assert not recorder.since(0.0)
    assert see(3.0) == 3
    assert [o.number for o in recorder.take()] == [3]
