"""The map of the wrong elements of a result."""

from __future__ import annotations

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.laws.difference import MAP_COLUMNS, MAP_ROWS, RIGHT, WORST, WRONG
from toeplitz_core.testing.reports.page.grid import Cell, Grid
from toeplitz_core.testing.subjects.outcome import OUTPUT

_TIMES = "\N{MULTIPLICATION SIGN}"
_KINDS = {RIGHT: "right", WRONG: "bad", WORST: "worst"}


def error_map(name: str, finding: Finding) -> Grid | None:
    """Which elements are wrong, around the worst one; None if nothing is known, or if the result has one element."""
    found = finding.failure.difference
    if found is None or found.varies:
        return None
    lines = found.map or _all_wrong(finding)
    if not lines:
        return None
    cells = [
        [Cell(_KINDS[mark], "" if mark == RIGHT else mark.replace(WRONG, _TIMES)) for mark in line] for line in lines
    ]
    shown = sum(line.count(WRONG) + line.count(WORST) for line in lines)
    plane = f" ({found.plane})" if found.plane else ""
    title = f"Map of {len(lines)} rows and {len(lines[0])} columns of the result: {shown} elements are wrong{plane}."
    caption = f"{found.wrong:,} of {found.total:,} elements are wrong. Shown{plane}: X is the worst, {_TIMES} wrong."
    caption += f" Wrong: {found.where}." * bool(found.where)
    return Grid(name, title, caption, cells, heading="Where the result is wrong")


def _all_wrong(finding: Finding) -> tuple[str, ...]:
    """The map of a result of which every element is wrong."""
    failure = finding.failure
    case = failure.call or failure.case
    found = failure.difference
    if isinstance(case, Call) or found is None or found.wrong < found.total:
        return ()
    if failure.quantity != OUTPUT.of or failure.index is None:
        return ()
    rows, columns = case.output_shape[-2:]
    if rows * columns < 2 or rows > MAP_ROWS or columns > MAP_COLUMNS:
        return ()
    at = failure.index[len(case.output_shape) - 2 : len(case.output_shape)]
    return tuple("".join(WORST if (row, column) == at else WRONG for column in range(columns)) for row in range(rows))
