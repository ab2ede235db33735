"""What a campaign leaves in its folder, and how it is read again."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Struct

from chaos.history import Receipt, Send
from chaos.observations import Observation
from chaos.results import Results
from chaos.verdicts import Valid

RESULTS = "results.json"
HISTORY = "history.jsonl"
OBSERVATIONS = "observations.jsonl"
TIMINGS = "timings.csv"
JUNIT = "junit.xml"
REPORT = "report.html"
SUMMARY = "summary.md"


T = TypeVar("T", bound=Struct)


class NoSuchRun(Exception):  # noqa: N818 - a sentence
    """A folder that holds no run."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the history: something sent or something received, in one repeat."""

    repeat: int
    send: Send | None = None
    receipt: Receipt | None = None


def append_history(
    folder: Path, repeat: int, sends: Sequence[Send], receipts: Sequence[Receipt]
) -> None:
    """Write what one repeat sent and what the provider received of it."""
    encode = msgspec.json.Encoder().encode
    with (folder / HISTORY).open("ab") as file:
        for send in sends:
            file.write(encode(Entry(repeat=repeat, send=send)) + b"\n")
        for receipt in receipts:
            file.write(encode(Entry(repeat=repeat, receipt=receipt)) + b"\n")


def append_observations(folder: Path, observations: Sequence[Observation]) -> None:
    """Write observations, each in the line that has its number."""
    encode = msgspec.json.Encoder().encode
    with (folder / OBSERVATIONS).open("ab") as file:
        file.writelines(encode(observation) + b"\n" for observation in observations)


def write(folder: Path, results: Results) -> None:
    """Write the results and what other programs read of them."""
    encoded = msgspec.json.format(msgspec.json.encode(results), indent=1)
    unfinished = folder / f"{RESULTS}.part"
    unfinished.write_bytes(encoded)
    unfinished.replace(folder / RESULTS)
    with (folder / TIMINGS).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("repeat", "metric", "lo", "hi"))
        for repeat in results.repeats:
            for name, value in sorted(repeat.metrics.items()):
                rows.writerow((repeat.number, name, value.lo, value.hi))
    ET.ElementTree(_junit(results)).write(folder / JUNIT, encoding="utf-8", xml_declaration=True)


def _junit(results: Results) -> ET.Element:
    failures = sum(r.valid is Valid.FALSE for r in results.repeats)
    errors = sum(r.valid is Valid.UNKNOWN for r in results.repeats)
    suite = ET.Element(
        "testsuite",
        name=f"chaos.{results.scenario}",
        tests=str(len(results.repeats)),
        failures=str(failures),
        errors=str(errors),
        time=f"{results.ended_at - results.began_at:.3f}",
    )
    for repeat in results.repeats:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"chaos.{results.scenario}",
            name=f"repeat {repeat.number}",
            time=f"{repeat.ended_at - repeat.began_at:.3f}",
        )
        if repeat.valid is not Valid.TRUE:
            kind = "failure" if repeat.valid is Valid.FALSE else "error"
            reasons = [v.reason for v in repeat.verdicts if v.valid is not Valid.TRUE]
            ET.SubElement(case, kind, message=reasons[0] if reasons else "").text = "\n".join(
                reasons
            )
    return suite


def read(folder: Path) -> Results:
    """Read the results of a run; raise NoSuchRun."""
    path = folder / RESULTS
    if not path.exists():
        raise NoSuchRun(f"{folder} holds no {RESULTS}")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except msgspec.DecodeError as error:
        raise NoSuchRun(f"{path} was written by another version of the suite: {error}") from error


def history(folder: Path, repeats: set[int]) -> dict[int, tuple[list[Send], list[Receipt]]]:
    """Read what some repeats sent and received."""
    found: dict[int, tuple[list[Send], list[Receipt]]] = {n: ([], []) for n in repeats}
    for entry in _lines(folder / HISTORY, Entry):
        if entry.repeat in found:
            sends, receipts = found[entry.repeat]
            if entry.send is not None:
                sends.append(entry.send)
            if entry.receipt is not None:
                receipts.append(entry.receipt)
    return found


def kept(folder: Path, texts: Collection[str]) -> Counter[str]:
    """Count how often the provider kept some messages in the repeats that were written."""
    found: Counter[str] = Counter()
    for entry in _lines(folder / HISTORY, Entry):
        if entry.receipt is not None and entry.receipt.kept and entry.receipt.text in texts:
            found[entry.receipt.text] += 1
    return found


def observations(folder: Path) -> list[Observation]:
    """Read all observations."""
    return list(_lines(folder / OBSERVATIONS, Observation))


def runs(folder: Path) -> list[tuple[Path, Results]]:
    """Return all runs below a folder that this version can read, the newest first."""
    found = []
    for path in folder.glob(f"*/{RESULTS}"):
        with suppress(NoSuchRun):
            found.append((path.parent, read(path.parent)))
    return sorted(found, key=lambda run: -run[1].began_at)


def find(folder: Path, name: str | None) -> Path:
    """Return the folder of a run by path or name, else the newest; raise NoSuchRun."""
    if name is None:
        every = runs(folder)
        if not every:
            raise NoSuchRun(f"there is no run below {folder}")
        return every[0][0]
    for path in (Path(name), folder / name):
        if (path / RESULTS).exists():
            return path
    near = sorted(path.name for path, _ in runs(folder) if name in path.name)
    if not near:
        raise NoSuchRun(f"there is no run {name!r} below {folder}")
    return folder / near[-1]


def _lines(path: Path, kind: type[T]) -> Iterator[T]:
    if path.exists():
        decode = msgspec.json.Decoder(kind).decode
        with path.open("rb") as file:
            for line in file:
                yield decode(line)
