"""What a run leaves behind and what a scenario may say is described, all of it, in one place."""

import re
import typing
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from chaos import archive, scenario, verdicts
from chaos.faults import AnyFault
from chaos.results import Measured, Phase, Repeat, Results, Row
from chaos.statistics import MedianInterval, Summary
from chaos.timeline import Hit
from chaos.verdicts import Verdict

README = Path(__file__).parents[1].joinpath("README.md").read_text()
NAMED = set(re.findall(r"`([^`\n]+)`", README))
FILES = ("RESULTS", "HISTORY", "OBSERVATIONS", "TIMINGS", "JUNIT", "REPORT", "SUMMARY")
INSIDE = (scenario.Steady, scenario.Load, scenario.Deadlines, scenario.Repeats, scenario.Promise)
TABLES = (*INSIDE, scenario.Goal, scenario.Guards, scenario.Timers, scenario.Scenario)
ENTRY = (Results, Repeat, Row, Phase, Verdict, Summary, MedianInterval, Hit, archive.Entry)


@pytest.mark.parametrize("kind", [*ENTRY, *TABLES], ids=lambda kind: kind.__name__)
def test_every_field_is_described(kind: type[Struct]) -> None:
    """A field that is written or read by people has its place in the tables."""
    fields = {field.encode_name for field in msgspec.structs.fields(kind)}
    if kind is scenario.Scenario:
        fields -= {"name"}
    assert not fields - NAMED


def test_the_rest_is_described_too() -> None:
    """So do the bounds of a measurement, the files, the exit codes, the kinds of faults."""
    assert '`{"lo": …, "hi": …}`' in README
    assert [field.name for field in msgspec.structs.fields(Measured)] == ["lo", "hi"]
    assert not {getattr(archive, name) for name in FILES} - NAMED
    assert not {cls.__struct_config__.tag for cls in typing.get_args(AnyFault)} - NAMED
    codes = {*verdicts.EXIT_CODES.values(), verdicts.EXIT_BAD_ARGUMENTS, verdicts.EXIT_CRASHED}
    assert all(f"\n| {code} | " in README for code in codes)
