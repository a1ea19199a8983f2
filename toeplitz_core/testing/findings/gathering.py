"""Failures become findings: those that one cause and one condition explain are one bug."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import necessary_shapes
from toeplitz_core.testing.case.recipe_table import ONE_HOT, RECIPES
from toeplitz_core.testing.data.one_hot import one_hot_cases
from toeplitz_core.testing.findings.causes.catalogue import GRADIENT, UNKNOWN
from toeplitz_core.testing.findings.causes.diagnosis import PREDICTED, Diagnosis, diagnosed, explains
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.matrices import Matrices
from toeplitz_core.testing.findings.other_variants import other_variants
from toeplitz_core.testing.findings.recovery import recovered
from toeplitz_core.testing.findings.sizes.boundaries import Need, needs
from toeplitz_core.testing.isolation.isolated_subject import patiently
from toeplitz_core.testing.laws import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict, alike, same_refusal
from toeplitz_core.testing.search.changes import OutOfCallsError
from toeplitz_core.testing.search.repetition import without_chance
from toeplitz_core.testing.search.smallest import smallest
from toeplitz_core.testing.strategies.domain import EVERYTHING, Domain
from toeplitz_core.testing.subjects.interface import Implementation
from toeplitz_core.testing.subjects.symptom import Symptom

# Calls of a law for the smallest case, and for the boundaries around it. Each crash costs a process.
CALLS = {Status.FAIL: (300, 500), Status.CRASH: (80, 160), Status.TIMEOUT: (60, 0)}
# Draws of other data for a case of one law under another.
DRAWS = 4
# Calls with a single product that is not zero.
ONE_HOT_CALLS = 40
# Seconds for the smallest case, and for the boundaries around it. Only slow subjects need more than the calls take.
SECONDS = (20.0, 20.0)
# The first of these for a failure that hangs: each such call takes half a second and more. Its boundaries are not
# sought, because most cases around it hang too.
SECONDS_OF_HANGS = 8.0
# The causes of results that depend on memory or on other calls.
_OF_STATE = ("stale-memory", "nondeterministic", "buffer-reused")
# Seconds for the same case under other variants of torch, where the subject is one.
VARIANT_SECONDS = 12.0


@dataclass(slots=True)
class _Bug:
    """A finding while failures are gathered.

    Parameters
    ----------
    finding : Finding
    diagnosis : Diagnosis
    failure : Verdict
        What other failures are compared with: the verdict on the smallest case, with numbers that tell the most.
    needs : tuple of Need
    """

    finding: Finding
    diagnosis: Diagnosis
    failure: Verdict
    needs: tuple[Need, ...] = ()


class Gathering:
    """Gather failures as findings, one after another.

    Parameters
    ----------
    subjects : callable
        Returns a subject by its name.
    laws : mapping of str to Law
        The laws by name.
    polish : bool
        Whether to look for a smaller case of each bug.
    domain : Domain
        The cases that the subjects are for. No other is tried as a smaller one.
    """

    def __init__(
        self,
        subjects: Callable[[str], Implementation],
        laws: Mapping[str, Law],
        *,
        polish: bool = True,
        domain: Domain = EVERYTHING,
    ) -> None:
        self._domain = domain
        self._polish = polish
        self._subjects = subjects
        self._laws = laws
        self._bugs: list[_Bug] = []
        self._found: dict[tuple[Step, str], _Bug] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, the gravest first."""
        return tuple(sorted((bug.finding for bug in self._bugs), key=lambda finding: finding.gravity))

    def gather(self, results: Iterable[Result], *, briefly: bool = False) -> None:
        """Add the failures of these results.

        Parameters
        ----------
        briefly : bool
            Call no subject: failures are compared by what they look like, and causes stay unknown.
        """
        failures = [(result.step, failure) for result in results for failure in result.failures]
        # What a mistake predicts comes first: other failures may be consequences of it.
        for step, failure in sorted(failures, key=lambda found: found[1].symptom not in PREDICTED):
            others = [one.case for at, one in failures if at.subject == step.subject and one.kind == failure.kind]
            self.add(step, failure, others, briefly=briefly)
        order = {step: number for number, (step, _) in enumerate(failures)}
        for bug in self._bugs:
            bug.finding = bug.finding.in_order(order)

    def add(
        self, step: Step, failure: Verdict, others: Sequence[Case | Call] = (), *, briefly: bool = False
    ) -> Finding:
        """Add a failure, and return the finding that it belongs to.

        Parameters
        ----------
        others : sequence of Case or Call
            Further failing cases, which may have the same cause.
        """
        key = step, str(failure.case)
        if key in self._found:
            return self._found[key].finding
        of_subject = [bug for bug in self._bugs if bug.finding.subject == step.subject]
        try:
            same = self._same_briefly if briefly else self._same
            bug = next((bug for bug in of_subject if same(bug, step, failure)), None)
            bug = _overlap(of_subject, failure) if bug is None else bug
            if bug is None:
                bug = self._brief(step, failure) if briefly else self._understood(step, failure, others, of_subject)
                # What looked like another bug may show on its smallest case that it is not.
                least = bug.failure
                known = (
                    other
                    for other in of_subject
                    if _same_call(other.failure, least) or _kept(other, bug) or same(other, step, least)
                )
                if (earlier := next(known, None)) is not None:
                    bug = earlier
                else:
                    self._append(bug)
        except Exception as error:  # noqa: BLE001  # the failure is reported, whatever comes of looking into it
            bug = self._brief(step, failure, f"not examined, because of {type(error).__name__}: {error}")
            self._append(bug)
        bug.finding = bug.finding.also_in(step, failure)
        self._found[key] = bug
        return bug.finding

    def _append(self, bug: _Bug) -> None:
        """Add a bug. Several with the same cause and symptom are counted, so that each has its own id."""
        alike = Counter(other.finding.id.partition("-")[0] for other in self._bugs)
        bug.finding = replace(bug.finding, number=alike[bug.finding.id] + 1)
        self._bugs.append(bug)

    def _brief(self, step: Step, failure: Verdict, why: str = "not examined") -> _Bug:
        symptom = failure.symptom
        known = symptom not in (Symptom.VALUES, Symptom.RELATION, Symptom.OTHER)
        diagnosis = Diagnosis(symptom.value if known else UNKNOWN, why)
        return _Bug(Finding(step.subject, failure, diagnosis.cause, diagnosis.evidence), diagnosis, failure)

    def _same_briefly(self, bug: _Bug, _: Step, failure: Verdict) -> bool:
        return bug.failure.kind == failure.kind or _same_call(bug.failure, failure)

    def _understood(self, step: Step, failure: Verdict, others: Sequence[Case | Call], earlier: Sequence[_Bug]) -> _Bug:
        """A new bug: its smallest case, which no earlier one explains, its cause, and what it needs."""
        subject, law = self._subjects(step.subject), self._laws[str(failure.case.law)]
        domain = self._domain.within(subject.claims.where)
        for_smallest, for_needs = CALLS[failure.status]
        fixed = isinstance(failure.case, Call) or (failure.difference is not None and bool(failure.difference.varies))
        found = failure
        if isinstance(failure.case, Case) and self._polish and not fixed and for_smallest:
            apart = [bug.diagnosis for bug in earlier if bug.diagnosis.hypothesis is not None]
            seconds = SECONDS_OF_HANGS if failure.status is Status.TIMEOUT else SECONDS[0]
            fails = _Fails(subject, law, failure, seconds, domain=domain, apart=apart)
            least = smallest(failure.case, fails, calls=for_smallest)
            if least != failure.case:
                found = _final(law, subject, least, failure)
        cases = [case for case in others if isinstance(case, Case) and case != found.case]
        diagnosis = diagnosed(subject, found, others=cases)
        if diagnosis.cause == UNKNOWN and found is not failure:
            # A smaller case may have another reason, or too few numbers to tell.
            again = diagnosed(subject, failure, others=cases)
            diagnosis = again if again.cause != UNKNOWN else diagnosis
        needed: tuple[Need, ...] = ()
        if isinstance(found.case, Case) and found.status is Status.TIMEOUT:
            needed = tuple(Need(condition, condition.text) for condition in necessary_shapes(found.case))
        if isinstance(found.case, Case) and not fixed and for_needs:
            whole = _with_many_numbers(subject, law, found)
            assert isinstance(whole.case, Case)
            fails = _Fails(subject, law, whole, SECONDS[1], diagnosis, domain)
            needed = needs(whole.case, fails, calls=for_needs)
        note = other_variants(found, step.subject, seconds=VARIANT_SECONDS)
        words = tuple(map(str, needed))
        shown = found if fixed else _one_hot(subject, law, found, diagnosis)
        seen, why = _matrices(subject, shown, diagnosis)
        finding = Finding(
            step.subject,
            shown,
            diagnosis.cause,
            diagnosis.evidence,
            words,
            note=note,
            matrices=seen,
            no_matrices=why,
        )
        return _Bug(finding, diagnosis, found, needed)

    def _same(self, bug: _Bug, step: Step, failure: Verdict) -> bool:
        """Whether a failure is another sight of a bug."""
        known = bug.failure
        if _same_call(known, failure):
            return True
        case = failure.call or failure.case
        if isinstance(case, Call) or isinstance(known.case, Call):
            return isinstance(case, Call) and isinstance(known.case, Call) and alike(known, failure)
        subject = self._subjects(step.subject)
        if bug.diagnosis.predicts:
            # A mistake that predicts the numbers outweighs the needs, which are only observed.
            if explains(subject, bug.diagnosis, failure):
                return True
            if failure.symptom in PREDICTED and bug.diagnosis.hypothesis is not None:
                return False
        if same_refusal(known, failure):  # the line that raises tells more than the needs
            return True
        if not all(need.holds(case) for need in bug.needs):
            return False
        if failure.status is Status.TIMEOUT:  # to call it under another law would only take long
            return alike(known, failure)
        return self._both_ways(subject, known, failure)

    def _both_ways(self, subject: Implementation, known: Verdict, failure: Verdict) -> bool:
        """Whether each of two cases fails under the law of the other one too, in the same way as there."""
        pairs = ((known, failure), (failure, known))
        asked = 0
        for one, other in pairs:
            law = self._laws.get(str(one.case.law))
            if law is None or not isinstance(other.case, Case) or (case := _taken(law, other.case)) is None:
                continue
            asked += 1
            # Other data may be right by chance: NaN can hide a wrong number.
            draws = 1 if case.data == other.case.data else DRAWS
            cases = [case.replace(seed=(case.seed + draw) % 2**64) for draw in range(draws)]
            if not any(self._fails_alike(subject, law, case, one) for case in cases):
                return False
        return asked > 0

    @staticmethod
    def _fails_alike(subject: Implementation, law: Law, case: Case, known: Verdict) -> bool:
        verdict = law(subject, case)
        if known.symptom in (Symptom.STALE, Symptom.CHANGING):
            verdict = without_chance(verdict, law, subject)
        return verdict.status.is_failure and alike(verdict, known)


def _matrices(subject: Implementation, failure: Verdict, diagnosis: Diagnosis) -> tuple[Matrices | None, str]:
    """The matrices of a finding, or why there are none."""
    if diagnosis.cause.removeprefix(GRADIENT) in _OF_STATE:
        return None, "The results depend on memory or on other calls, so they have no matrix."
    found = recovered(subject, failure)
    return (found, "") if isinstance(found, Matrices) else (None, found)


def _kept(earlier: _Bug, later: _Bug) -> bool:
    """Whether both bugs are that results depend on memory or on other calls, in the same way.

    The numbers of such failures are not the same twice, so nothing tells them apart.
    """
    cause = later.finding.cause.removeprefix(GRADIENT)
    return cause in _OF_STATE and earlier.finding.cause.removeprefix(GRADIENT) == cause


def _overlap(bugs: Sequence[_Bug], failure: Verdict) -> _Bug | None:
    """The first of several bugs that the case of a failure has at once, so that none predicts the numbers alone."""
    case = failure.call or failure.case
    if failure.symptom not in PREDICTED or isinstance(case, Call):
        return None
    known = [bug for bug in bugs if bug.diagnosis.hypothesis is not None and bug.needs]
    there = [bug for bug in known if all(need.holds(case) for need in bug.needs)]
    return there[0] if len(there) > 1 else None


class _Fails:
    """Whether a case fails in the same way as another one; None for a case that the law or the subject does not take.

    When the time is over, it ends the search as if no call were left. With a mistake, the way is what that predicts;
    nothing is known of a case that fails in another way, or that one of the mistakes ``apart`` explains.
    """

    def __init__(
        self,
        subject: Implementation,
        law: Law,
        failure: Verdict,
        seconds: float,
        known: Diagnosis | None = None,
        domain: Domain = EVERYTHING,
        apart: Sequence[Diagnosis] = (),
    ) -> None:
        self._domain = domain
        self._apart = apart
        self._subject, self._law, self._failure = subject, law, failure
        self._known = known if known is not None and known.hypothesis is not None else None
        self._end = time.monotonic() + seconds

    def __call__(self, case: Case) -> bool | None:
        if time.monotonic() > self._end:
            raise OutOfCallsError
        if not self._law.takes(case) or not self._domain.contains(case):
            return None
        verdict = self._law(self._subject, case)
        if verdict.status is Status.UNSUPPORTED:
            return None
        if self._known is not None and verdict.status.is_failure:
            return explains(self._subject, self._known, verdict) or None
        if verdict.status.is_failure and any(explains(self._subject, one, verdict) for one in self._apart):
            return None
        return verdict.status is self._failure.status and alike(verdict, self._failure)


def _final(law: Law, subject: Implementation, case: Case, failure: Verdict) -> Verdict:
    """The verdict on a smaller case, without values that change; the verdict before if it does not fail again."""
    with patiently(subject):
        found = law(subject, case)
    if not found.status.is_failure or found.status is not failure.status:
        return failure
    return without_chance(found, law, subject).replace(flags=failure.flags)  # of the options of the run


def _one_hot(subject: Implementation, law: Law, found: Verdict, diagnosis: Diagnosis) -> Verdict:
    """Wrong numbers with a single product that is not zero, if one of a few shows the same mistake."""
    case = found.case
    if found.symptom is not Symptom.VALUES or isinstance(case, Call) or RECIPES[case.data].kind != "storage":
        return found
    fails = _Fails(subject, law, found, SECONDS[0], diagnosis)
    with contextlib.suppress(OutOfCallsError):
        for plain in one_hot_cases(case, ONE_HOT_CALLS):
            if fails(plain):
                return _final(law, subject, plain, found)
    return found


def _with_many_numbers(subject: Implementation, law: Law, found: Verdict) -> Verdict:
    """The failure with many numbers, if it has a single product: in another geometry, that product may be right."""
    if isinstance(found.case, Call) or found.case.data != ONE_HOT:
        return found
    again = law(subject, found.case.replace(data="integers"))
    return again if again.status is found.status and alike(again, found) else found


def _taken(law: Law, case: Case) -> Case | None:
    """The case as the law takes it; None if it takes none like it."""
    if case.dtype not in law.dtypes:
        return None
    if not law.takes(case):
        recipes = law.recipes_for(case.dtype)
        if not recipes:
            return None
        case = case.replace(data="integers" if "integers" in recipes else recipes[0])
    return case if law.sharpen is None else law.sharpen(case)


def _same_call(one: Verdict, other: Verdict) -> bool:
    """Whether two failures are of the same call, whatever laws made it."""
    cases = [verdict.call or verdict.case for verdict in (one, other)]
    return cases[0].replace(law=None) == cases[1].replace(law=None) and alike(one, other)
