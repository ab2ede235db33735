"""The table of parts as this machine has them."""

from scripts.tools import plan
from scripts.tools.parts import MissingTool, Part
from scripts.tools.search import find
from scripts.tools.table import ON_DEMAND, WANTED

HEAD = ("part", "version", "from", "path")


def examine() -> int:
    """Print every part, or the command that installs it; return 1 when one is missing.

    What only some commands need, and obtain, may be missing.
    """
    rows, problems = [HEAD], []
    for part in plan.closure((*WANTED, *ON_DEMAND)):
        try:
            rows.append(_row(part))
        except MissingTool as missing:
            if part.name in ON_DEMAND:
                rows.append((part.name, "-", "-", "obtained when a command needs it"))
                continue
            rows.append((part.name, "-", "-", "missing"))
            problems.append(str(missing))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def _row(part: Part) -> tuple[str, str, str, str]:
    tool = find(part.name)
    where = str(tool.path or tool.address)
    return (part.name, tool.version or "-", tool.source, where)
