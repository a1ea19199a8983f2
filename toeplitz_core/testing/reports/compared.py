"""A comparison of two runs as lines of text, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toeplitz_core.testing.reports.text import filled
from toeplitz_core.testing.run.comparison.comparison import Changed, Comparison, Drift, Limits, Support, grouped
from toeplitz_core.testing.run.comparison.facts import Facts, FindingFact
from toeplitz_core.testing.support.spelling import counted


def comparison_lines(comparison: Comparison, limits: Limits) -> list[str]:
    """The lines of a comparison; the last one says whether it fails, and why."""
    lines = []
    for label, texts in comparison_facts(comparison):
        for text in texts:
            first, *rest = text.split("\n")
            lines += [*filled(f"{label}: {first}"), *rest]
    return [*lines, verdict_line(comparison, limits)]


def comparison_facts(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """The facts of a comparison by their label, the most important first. Further lines of a fact can be copied."""
    yield "compared", [f"{_run(comparison.old)} with {_run(comparison.new)}"]
    yield "new finding", [_finding(found) for found in comparison.appeared]
    without = [Support(step, "held, and fails now, without a new finding") for step in comparison.unexplained]
    yield "fails", _supports(without)
    yield "less supported", _supports(comparison.lost)
    yield "changed finding", [_changed(found) for found in comparison.changed]
    yield "gone", [_finding(found) for found in comparison.gone]
    yield "more supported", _supports(comparison.gained)
    yield "accuracy", [_drift(found) for found in comparison.drifts]
    if comparison.slower is not None:
        old, new = comparison.old.seconds, comparison.new.seconds
        yield "time", [f"{old:.1f} s, now {new:.1f} s: {comparison.slower:.2f} times"]
    yield "not the same", list(comparison.not_compared)


def verdict_line(comparison: Comparison, limits: Limits) -> str:
    """Whether a comparison fails, and why."""
    if reasons := comparison.fails(limits):
        return f"fails: {', '.join(reasons)}"
    if comparison.tells:
        return "nothing that fails"
    if comparison.not_compared:
        return "no difference in what both have"
    return "no difference" if comparison.slower is None else "no difference but time"


def _run(facts: Facts) -> str:
    said = [
        word for word in (facts.date, *(f"torch {v}" for k, v in facts.environment.items() if k == "torch")) if word
    ]
    return f"{facts.name} ({', '.join(said)})" if said else facts.name


def _finding(found: FindingFact) -> str:
    where = f"{counted(list(found.laws), 'law')}; {', '.join(found.dtypes)}"
    needs = f"; needs {', '.join(found.needs)}" if found.needs else ""
    subjects = ", ".join(found.subjects)
    return f"{found.cause} ({found.id}): {subjects} ({found.status}): {where}{needs}\n  case: {found.case}"


def _changed(changed: Changed) -> str:
    said = []
    for name in changed.what:
        old, new = (getattr(one, name) for one in (changed.old, changed.new))
        if isinstance(old, tuple):
            more, less = ([word for word in one if word not in other] for one, other in ((new, old), (old, new)))
            said.append(f"{name} {', '.join([*(f'+{word}' for word in more), *(f'-{word}' for word in less)])}")
        else:
            said.append(f"{name} {old}, now {new}")
    another = "; it may be another bug now" if changed.may_be_another else ""
    return f"{changed.new.cause} ({changed.new.id}): {', '.join(changed.new.subjects)}: {'; '.join(said)}{another}"


def _supports(found: Sequence[Support]) -> list[str]:
    lines = []
    for (subject, device, what), steps in grouped(found).items():
        dtypes = ", ".join(dict.fromkeys(step.dtype for step in steps))
        laws = counted(list(dict.fromkeys(step.law for step in steps)), "law")
        lines.append(f"{subject} on {device}: {dtypes}: {laws}: {what}")
    return lines


def _drift(drift: Drift) -> str:
    old, new, (half, most) = drift.old.ulps, drift.new.ulps, drift.factors
    where = f"{drift.new.subject} {drift.new.dtype} {drift.new.device}"
    return (
        f"{where}: the median error is {old.median:g} ulps, now {new.median:g} ({half:.3g} times); "
        f"99 percent are at most {old.most:g}, now {new.most:g} ({most:.3g} times)"
    )
