"""How a run differs from an earlier one: findings, what is supported, accuracy and time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from toeplitz_core.testing.laws.accuracy import Accuracy
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.comparison.facts import Facts, FindingFact, StepFact
from toeplitz_core.testing.support.spelling import counted, legal_words

# The share of judged cases varies by chance: two searches that draw other cases differ by less than this share of the
# cases, or by fewer cases.
_LESS_JUDGED, _FEWER_JUDGED = 0.15, 3
# What may fail a comparison, and the default.
KINDS = ("findings", "support", "accuracy", "time")
DEFAULT = "findings,support"
_FACTOR = re.compile(r"\d+(\.\d+)?x?")
# A change of accuracy by less than this factor is not reported.
_WORTH_TELLING = 1.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What fails a comparison.

    Parameters
    ----------
    findings, support : bool
        Whether new findings fail it, and whether less support does.
    accuracy, time : float, optional
        By which factor errors, or the time of the run, may grow; None for any.
    """

    findings: bool = True
    support: bool = True
    accuracy: float | None = None
    time: float | None = None

    @classmethod
    def of(cls, text: str) -> Limits:
        """Read them from text such as ``findings,support,accuracy:2x,time:1.5x``.

        Raises
        ------
        ValueError
            If a word is unknown, or a factor is missing or less than 1.

        Examples
        --------
        >>> Limits.of("findings,accuracy:2x")
        Limits(findings=True, support=False, accuracy=2.0, time=None)
        """
        found: dict[str, bool | float] = {"findings": False, "support": False}
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise ValueError(f"fail-on={text!r} names nothing; {legal_words('', KINDS)}")
        for part in parts:
            name, _, factor = part.partition(":")
            if name not in KINDS:
                raise ValueError(f"fail-on={part!r}: {legal_words(name, KINDS)}")
            if name in ("findings", "support"):
                if factor:
                    raise ValueError(f"fail-on={part!r}: {name} has no factor")
                found[name] = True
            elif not _FACTOR.fullmatch(factor) or float(factor.removesuffix("x")) < 1:
                raise ValueError(f"fail-on={part!r}: {name} needs a factor of at least 1, as in {name}:2x")
            else:
                found[name] = float(factor.removesuffix("x"))
        return cls(**found)  # type: ignore[arg-type]  # by name


@dataclass(frozen=True, slots=True)
class Changed:
    """A finding that both runs have.

    Parameters
    ----------
    old, new : FindingFact
    """

    old: FindingFact
    new: FindingFact

    @property
    def what(self) -> tuple[str, ...]:
        """The names of the fields that differ."""
        return tuple(f.name for f in fields(self.old) if getattr(self.old, f.name) != getattr(self.new, f.name))

    @property
    def may_be_another(self) -> bool:
        """Whether another bug with the same cause may have taken its place: what they need has nothing in common."""
        return bool(self.old.needs) and not set(self.old.needs) & set(self.new.needs)


@dataclass(frozen=True, slots=True)
class Support:
    """A step of which one run says less than the other.

    Parameters
    ----------
    step : Step
    what : str
        What is lost or gained, in words.
    """

    step: Step
    what: str


@dataclass(frozen=True, slots=True)
class Drift:
    """The accuracy of a subject in one dtype, in both runs.

    Parameters
    ----------
    old, new : Accuracy
    """

    old: Accuracy
    new: Accuracy

    @property
    def factors(self) -> tuple[float, float]:
        """By which factor the errors in ulps have grown: half of them, and 99 percent of them.

        The largest error is not compared: it is that of a sum that cancels, and says little.
        """
        pairs = ((self.old.ulps.median, self.new.ulps.median), (self.old.ulps.most, self.new.ulps.most))
        half, most = (1.0 if new == old else new / old if old else math.inf for old, new in pairs)
        return half, most

    @property
    def factor(self) -> float:
        """The larger of the factors."""
        return max(self.factors)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a new run differs from an old one.

    Parameters
    ----------
    old, new : Facts
    appeared, gone : tuple of FindingFact
        Findings that only the new run has, and only the old one, of the steps that both have.
    changed : tuple of Changed
        Findings of both with another case, other conditions, dtypes, laws or devices.
    lost, gained : tuple of Support
        Steps that are less supported now, and more.
    drifts : tuple of Drift
        Accuracy that changed.
    measured : int
        Number of subjects, dtypes and devices whose accuracy both runs have.
    unexplained : tuple of Step
        Steps that held and fail now, without a new finding that says why.
    slower : float, optional
        By which factor the whole run takes longer; None if this is not known.
    not_compared : tuple of str
        What the runs do not share, in words.
    """

    old: Facts
    new: Facts
    appeared: tuple[FindingFact, ...]
    gone: tuple[FindingFact, ...]
    changed: tuple[Changed, ...]
    lost: tuple[Support, ...]
    gained: tuple[Support, ...]
    drifts: tuple[Drift, ...]
    measured: int
    unexplained: tuple[Step, ...]
    slower: float | None
    not_compared: tuple[str, ...]

    @property
    def tells(self) -> bool:
        """Whether anything differs, in what both runs have, but times."""
        findings = self.appeared or self.gone or self.changed or self.unexplained
        return bool(findings or self.lost or self.gained or self.drifts)

    def fails(self, limits: Limits) -> tuple[str, ...]:
        """The reasons to fail, in words; empty if there are none."""
        found = []
        if limits.findings and self.appeared:
            found.append(_counted(len(self.appeared), "new finding"))
        if limits.findings and self.unexplained:
            verb = "fail" if len(self.unexplained) > 1 else "fails"
            found.append(f"{_counted(len(self.unexplained), 'step')} that held {verb}, without a new finding")
        if limits.findings and (others := sum(changed.may_be_another for changed in self.changed)):
            found.append(f"{_counted(others, 'finding')} may be another bug now")
        if limits.support and self.lost:
            found.append("less is supported")
        if limits.support and self.new.ended != "completed":
            found.append(f"the new run was cut short: {self.new.ended}")
        worst = max((drift.factor for drift in self.drifts), default=1.0)
        if limits.accuracy is not None and worst > limits.accuracy:
            found.append(f"errors are {worst:.3g} times as large, and may be {limits.accuracy:g} times")
        if limits.time is not None and self.slower is not None and self.slower > limits.time:
            found.append(f"the run takes {self.slower:.3g} times as long, and may take {limits.time:g} times")
        return tuple(found)


def compared(old: Facts, new: Facts) -> Comparison:
    """Compare two runs on what they share.

    Raises
    ------
    ValueError
        If they share no step; the message names the subjects of both.
    """
    shared = [step for step in new.steps if step in old.steps]
    if not shared:
        raise ValueError(
            f"{old.name} and {new.name} have nothing to compare: the first is of {_listed(old)}, the second of "
            f"{_listed(new)}, and no subject, law, dtype and device is in both"
        )
    there = [finding for finding in new.findings.values() if _concerns(finding, shared)]
    before = [finding for finding in old.findings.values() if _concerns(finding, shared)]
    both = [(old.findings[found.id], found) for found in there if found.id in old.findings]
    changes = [Changed(one.within(shared), other.within(shared)) for one, other in both]
    appeared = tuple(finding for finding in there if finding.id not in old.findings)
    failing = [s for s in shared if old.steps[s].holds and Status(new.steps[s].status).is_failure]
    differing = {step: _support(old.steps[step], new.steps[step]) for step in shared}
    drifts = [Drift(old.accuracy[key], found) for key, found in new.accuracy.items() if key in old.accuracy]
    alike = [drift for drift in drifts if drift.old.geometries == drift.new.geometries]
    slower = None
    if old.seconds and new.seconds and set(old.steps) == set(new.steps):
        slower = new.seconds / old.seconds
    return Comparison(
        old,
        new,
        appeared,
        tuple(finding for finding in before if finding.id not in new.findings),
        tuple(changed for changed in changes if changed.what),
        tuple(Support(step, lost) for step, (lost, _) in differing.items() if lost),
        tuple(Support(step, gained) for step, (_, gained) in differing.items() if gained),
        tuple(drift for drift in alike if _is_worth_telling(drift)),
        len(alike),
        tuple(step for step in failing if not any(_concerns(finding, [step]) for finding in appeared)),
        slower,
        tuple(_not_compared(old, new, len(drifts) - len(alike))),
    )


def _support(old: StepFact, new: StepFact) -> tuple[str, str]:
    """What of a step is lost and what is gained, in words."""
    if old.is_supported and new.status == Status.NOT_RUN:  # here, whatever the subject supports
        return "", ""
    if old.is_supported != new.is_supported:
        one = new if old.is_supported else old
        words = f"{old.status} -> {new.status}" + (f" ({one.why})" if one.why else "")
        return (words, "") if old.is_supported else ("", words)
    if not new.is_supported:
        return "", ""
    lost, gained = ([f for f in one.refuses if f not in other.refuses] for one, other in ((new, old), (old, new)))
    if lost or gained:
        return f"refuses {', '.join(lost)}" * bool(lost), f"takes {', '.join(gained)}" * bool(gained)
    words = f"{old.judged:.0%} -> {new.judged:.0%} of the cases judged"
    change = new.judged - old.judged
    # A search that finds a failure draws other cases than one that does not.
    tells = old.holds and new.holds and abs(change) * min(old.cases, new.cases) >= _FEWER_JUDGED
    return words * (tells and change < -_LESS_JUDGED), words * (tells and change > _LESS_JUDGED)


def _concerns(finding: FindingFact, shared: list[Step]) -> bool:
    """Whether a finding may show in the steps that both runs have."""
    return any(
        step.subject in finding.subjects
        and step.law in finding.laws
        and step.dtype in finding.dtypes
        and (not finding.devices or step.device in finding.devices)
        for step in shared
    )


def _not_compared(old: Facts, new: Facts, other_geometries: int) -> list[str]:
    """What differs between the runs themselves, so that less is compared or differences may have other reasons."""
    found = []
    for one, other, word in ((old, new, "old"), (new, old, "new")):
        only = [step for step in one.steps if step not in other.steps]
        if only:
            cut = "" if other.ended == "completed" else f", because the other was cut short: {other.ended}"
            found.append(f"only the {word} run has {_counted(len(only), 'step')}: {_steps(only)}{cut}")
    ended = [step for step in new.steps if step in old.steps and new.steps[step].status == Status.NOT_RUN]
    missing: dict[str, list[Step]] = {}
    for step in ended:
        if old.steps[step].is_supported:
            missing.setdefault(new.steps[step].why, []).append(step)
    found += [f"not run now: {_steps(steps)} ({why})" for why, steps in missing.items()]
    for name in ("profile", "examples", "seed", "where", "max_products"):
        values = [facts.options.get(name) for facts in (old, new)]
        if values[0] != values[1] and old.options and new.options:
            found.append(f"{name} differs: {values[0]}, now {values[1]}")
    versions = {name: (value, new.environment.get(name)) for name, value in old.environment.items() if new.environment}
    found += [f"{name} differs: {value}, now {now}" for name, (value, now) in versions.items() if value != now]
    if other_geometries:
        found.append(
            f"the accuracy of {_counted(other_geometries, 'dtype')} was measured on another number of geometries"
        )
    for facts in (old, new):
        if facts.newer:
            found.append(f"{facts.name} has schema {facts.newer}: fields that are new in it are not read")
    return found


def _is_worth_telling(drift: Drift) -> bool:
    return any(not 1 / _WORTH_TELLING < factor < _WORTH_TELLING for factor in drift.factors)


def _steps(steps: Sequence[Step]) -> str:
    """Steps in words: their subjects, devices and dtypes, and the laws, counted if they are many."""
    names = ("subject", "device", "dtype")
    said = [", ".join(dict.fromkeys(getattr(step, name) for step in steps)) for name in names]
    return "; ".join((*said, counted(list(dict.fromkeys(step.law for step in steps)), "law")))


def _listed(facts: Facts) -> str:
    return ", ".join(facts.subjects) or "no subject"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)


def grouped(found: Sequence[Support]) -> Mapping[tuple[str, str, str], list[Step]]:
    """Steps together whose support changed in the same way, by subject, device and words."""
    groups: dict[tuple[str, str, str], list[Step]] = {}
    for each in found:
        groups.setdefault((each.step.subject, each.step.device, each.what), []).append(each.step)
    return groups
