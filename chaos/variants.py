"""One file that stands for several scenarios: each combination of what its table `each` lists."""

import tomllib
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

EACH = "each"
Axes = dict[str, dict[str, dict[str, str]]]
"""By the axis and by what it adds to the name: the words that are filled in."""


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a file says, by the name of each scenario in it; raise ValueError."""
    own = tomllib.loads(path.read_text())
    if EACH not in own:
        return {path.stem: own}
    try:
        axes = msgspec.convert(own.pop(EACH), Axes)
    except msgspec.ValidationError as error:
        raise ValueError(f"its table {EACH}: {error}") from error
    found = {}
    for chosen in product(*(axis.items() for axis in axes.values())):
        words = {word: value for _, values in chosen for word, value in values.items()}
        found["-".join([path.stem, *(name for name, _ in chosen)])] = _filled(own, words)
    return found


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Fill in the words wherever they stand in braces; other braces stay."""
    if isinstance(value, dict):
        return {key: _filled(below, words) for key, below in value.items()}
    if isinstance(value, list):
        return [_filled(below, words) for below in value]
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(f"{{{word}}}", text)
    return value
