"""Quantities as people write them: `500ms`, `10s`, `5m`, `200/s`."""

import math
import re

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"^{_NUMBER}\s*(ms|s|m|h)$")
_RATE = re.compile(rf"^{_NUMBER}/(s|m)$")
_IN_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Seconds(float):
    """A duration, written with its unit."""

    __slots__ = ()


class PerSecond(float):
    """A rate, written with its unit."""

    __slots__ = ()


def read(kind: type, value: object) -> object:
    """Turn what is written into a quantity; raise ValueError when the unit is missing."""
    if isinstance(value, kind):
        return value
    text = str(value)
    if kind is Seconds:
        if found := _DURATION.match(text):
            return Seconds(float(found[1]) * _IN_SECONDS[found[2]])
        raise ValueError(f"{text!r} is no duration: write it like 500ms, 10s or 5m")
    if kind is PerSecond:
        if found := _RATE.match(text):
            return PerSecond(float(found[1]) / _IN_SECONDS[found[2]])
        raise ValueError(f"{text!r} is no rate: write it like 200/s")
    raise TypeError(f"{kind} is no quantity")


def show(seconds: float) -> str:
    """Write a duration as people read it."""
    if math.isinf(seconds):
        return "no end"
    if seconds < 0.0005:  # noqa: PLR2004 - nobody reads fractions of a millisecond
        return "0 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
