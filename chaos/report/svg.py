"""Plots as inline SVG: axes, lines, dots, bars and hatched bands, in the page's own colours."""

import math
from collections.abc import Iterable, Sequence
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 175, 20, 12, 34
TICKS = 6
NOTE_WIDTH = 160
COLUMN_WIDTH = 9


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return an element; underscores in names become hyphens."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{words}>{content}</{name}>"


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class Plot:
    """A drawing area with an x axis in seconds and a y axis in figures or in rows."""

    def __init__(
        self,
        title: str,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        height: int = 220,
        width: int = 1040,
        left: int = LEFT,
        log_y: bool = False,
        log_x: bool = False,
    ) -> None:
        self._title = title
        self._x = x if x[1] > x[0] else (x[0], x[0] + 1)
        self._y = y if y[1] > y[0] else (y[0], y[0] + 1)
        self._log = {"x": log_x, "y": log_y}
        self._width, self._height, self._left = width, height, left
        self._parts: list[str] = []
        self._marks = 0

    def x(self, value: float) -> float:
        """Return where a value of the x axis is drawn."""
        share = _share(value, self._x, log=self._log["x"])
        return self._left + share * (self._width - self._left - RIGHT)

    def y(self, value: float) -> float:
        """Return where a value of the y axis is drawn."""
        share = _share(value, self._y, log=self._log["y"])
        return self._height - BOTTOM - share * (self._height - TOP - BOTTOM)

    def band(self, since: float, until: float, label: str) -> None:
        """Draw a hatched band over a span of the x axis: a fault."""
        x, width = self.x(since), max(2.0, self.x(until) - self.x(since))
        height = self._height - TOP - BOTTOM
        box = {"x": x, "y": TOP, "width": width, "height": height}
        title = tag("title", escape(label))
        self._parts.append(tag("rect", title, class_="fault", fill="url(#hatch)", **box))

    def bar(
        self, since: float, until: float, row: float, thickness: float, css: str, label: str
    ) -> None:
        """Draw a horizontal bar around a y position."""
        top = self.y(row) - thickness / 2
        width = max(1.5, self.x(until) - self.x(since))
        box = {"x": self.x(since), "y": top, "width": width, "height": thickness}
        self._parts.append(tag("rect", tag("title", escape(label)), class_=css, **box))

    def whisker(
        self, since: float, until: float, row: float, css: str, label: str, link: str = ""
    ) -> None:
        """Draw an interval with ends, around a y position, perhaps as a link."""
        a, b, y = self.x(since), max(self.x(until), self.x(since) + 1), self.y(row)
        path = f"M{a:.1f} {y - 4:.1f}v8M{a:.1f} {y:.1f}H{b:.1f}M{b:.1f} {y - 4:.1f}v8"
        drawn = tag("path", tag("title", escape(label)), class_=f"line {css}", d=path)
        self._parts.append(tag("a", drawn, href=link) if link else drawn)

    def line(self, points: Sequence[tuple[float, float]], css: str, label: str) -> None:
        """Draw a line through points."""
        if points:
            path = "L".join(f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in points)
            title = tag("title", escape(label))
            self._parts.append(tag("path", title, class_=f"line {css}", d=f"M{path}"))

    def dots(self, points: Iterable[tuple[float, float]], css: str, radius: float = 2.0) -> None:
        """Draw many dots as one path."""
        path = "".join(
            f"M{self.x(a) - radius:.1f} {self.y(b):.1f}h{2 * radius:.1f}" for a, b in points
        )
        self._parts.append(tag("path", class_=f"dots {css}", d=path, stroke_width=2 * radius))

    def dot(self, a: float, b: float, css: str, label: str, link: str = "") -> None:
        """Draw one dot that says what it is, perhaps as a link."""
        title = tag("title", escape(label))
        drawn = tag("circle", title, cx=self.x(a), cy=self.y(b), r=4.0, class_=css)
        self._parts.append(tag("a", drawn, href=link) if link else drawn)

    def mark(self, value: float, css: str, label: str) -> None:
        """Draw a vertical line with a word at its top."""
        if self._x[0] <= value <= self._x[1]:
            x = self.x(value)
            self.rule(value, css)
            y = TOP + 10 + 13 * self._marks
            right = x > self._width - NOTE_WIDTH
            spot = {"x": x - 4 if right else x + 4, "text_anchor": "end" if right else "start"}
            self._parts.append(tag("text", escape(label), y=y, class_="note", **spot))
            self._marks += 1

    def rule(self, value: float, css: str) -> None:
        """Draw a vertical line from top to bottom."""
        path = f"M{self.x(value):.1f} {TOP}V{self._height - BOTTOM}"
        self._parts.append(tag("path", class_=f"line {css}", d=path))

    def columns(
        self, points: Iterable[tuple[float, float]], row: float, peak: float, css: str, label: str
    ) -> None:
        """Draw columns that stand on a y position as one path; 1 is full height, 0 still seen."""
        ground = self.y(row)
        path = "".join(
            f"M{self.x(a) - COLUMN_WIDTH / 2:.1f} {ground:.1f}"
            f"v{-max(1.0, peak * share):.1f}h{COLUMN_WIDTH}V{ground:.1f}z"
            for a, share in points
        )
        title = tag("title", escape(label))
        self._parts.append(tag("path", title, class_=f"fill {css}", d=path))

    def cross(self, a: float, b: float, css: str, label: str) -> None:
        """Draw an oblique cross that says what it is."""
        x, y = self.x(a), self.y(b)
        path = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
        self._parts.append(tag("path", tag("title", escape(label)), class_=f"line {css}", d=path))

    def diamond(self, a: float, b: float, css: str, label: str) -> None:
        """Draw a square on its corner that says what it is."""
        path = f"M{self.x(a):.1f} {self.y(b) - 6:.1f}l6 6l-6 6l-6 -6Z"
        self._parts.append(tag("path", tag("title", escape(label)), class_=css, d=path))

    def text(self, a: float, b: float, words: str) -> None:
        """Write a word around a position."""
        spot = {"x": self.x(a), "y": self.y(b) + 4}
        self._parts.append(tag("text", escape(words), class_="note", text_anchor="middle", **spot))

    def row(self, value: float, label: str) -> None:
        """Write a word at the left of a y position."""
        spot = {"x": self._left - 8, "y": self.y(value) + 4}
        self._parts.append(tag("text", escape(label), class_="row", text_anchor="end", **spot))

    def y_axis(self, unit: str) -> None:
        """Draw the grid and the figures of the y axis."""
        for value in _ticks(self._y, log=self._log["y"]):
            y = self.y(value)
            path = f"M{self._left} {y:.1f}H{self._width - RIGHT}"
            self._parts.insert(0, tag("path", class_="grid", d=path))
            self._parts.append(
                tag("text", f"{_figure(value)}{unit}", x=self._left - 8, y=y + 4, text_anchor="end")
            )

    def drawn(self, caption: str, *, x_axis: bool = True) -> str:
        """Return the figure, with figures on its x axis unless that is only an order."""
        for value in _ticks(self._x, log=self._log["x"]) if x_axis else ():
            x = self.x(value)
            path = f"M{x:.1f} {TOP}V{self._height - BOTTOM}"
            self._parts.insert(0, tag("path", class_="grid", d=path))
            spot = {"x": x, "y": self._height - BOTTOM + 16}
            text = f"{_figure(value)} s"
            self._parts.append(tag("text", text, text_anchor="middle", **spot))
        svg = tag(
            "svg",
            "".join(self._parts),
            viewBox=f"0 0 {self._width} {self._height}",
            role="img",
            aria_label=self._title,
        )
        heading = tag("h3", escape(self._title))
        return tag("figure", heading + svg + tag("figcaption", caption))


def _share(value: float, span: tuple[float, float], *, log: bool) -> float:
    lo, hi = span
    value = min(max(value, lo), hi)
    if log:
        return math.log(value / lo) / math.log(hi / lo)
    return (value - lo) / (hi - lo)


def _ticks(span: tuple[float, float], *, log: bool) -> list[float]:
    lo, hi = span
    if log:
        first, last = math.floor(math.log10(lo)), math.ceil(math.log10(hi))
        return [10.0**n for n in range(first, last + 1) if lo <= 10.0**n <= hi]
    rough = (hi - lo) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * n for n in (1, 2, 5, 10) if size * n >= rough)
    first = math.ceil(lo / step - 1e-9)
    return [step * n for n in range(first, int(hi / step + 1e-9) + 1)]


def _figure(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e4 else f"{value:.0f}"  # noqa: PLR2004
