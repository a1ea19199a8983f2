"""Which mistake of the catalogue a subject makes: the one that predicts its results, on fresh data and geometries."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import necessary
from toeplitz_core.testing.case.recipe_table import ONE_HOT, RECIPES
from toeplitz_core.testing.data.one_hot import one_hot_cases
from toeplitz_core.testing.findings.causes import channels, numbers, outputs, shapes, windows
from toeplitz_core.testing.findings.causes.catalogue import GRADIENT, UNKNOWN, names
from toeplitz_core.testing.findings.causes.earlier_calls import wrong_calls
from toeplitz_core.testing.findings.causes.fresh_cases import grown_cases
from toeplitz_core.testing.findings.causes.hypothesis import Hypothesis
from toeplitz_core.testing.findings.causes.trial import Trial, tried
from toeplitz_core.testing.findings.explanation import explanation
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.contract import CONTRACT
from toeplitz_core.testing.laws.families.gradients import DerivativeCheck
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.arithmetics import ARITHMETICS
from toeplitz_core.testing.subjects.interface import Implementation
from toeplitz_core.testing.subjects.outcome import OUTPUT
from toeplitz_core.testing.subjects.symptom import Symptom

# Fresh draws of the data of a case, and attempts at other geometries that meet its conditions.
DRAWS = 4
GEOMETRIES = 24
# A mistake is named if it explains at least this many results besides the one that suggested it.
CONFIRMED = 2
# With this many wrong results on other geometries, no more are tried.
ENOUGH = 8
# Seconds of this process after which no further mistake is tried.
SECONDS = 8.0
# What an arithmetic that explains a failure means, by a word of its name; for all others, the sums are too narrow.
_ARITHMETICS = (
    ("operands", "inputs-rounded"),
    ("tf32", "inputs-rounded"),
    ("autocast", "inputs-rounded"),
    ("flush", "subnormals-flushed"),
    ("winograd", "transformed"),
    ("fft", "transformed"),
)
_ROUNDING = ("narrow-accumulator", *dict(_ARITHMETICS).values())
# If a call is right in this many runs of a fresh process, it is not wrong by chance, but after other calls.
_REPEATED = 10
# A single result tells of a mistake if at least this many numbers are wrong; larger convolutions take too long.
_FEWEST_WRONG, _MOST_PRODUCTS, _SECONDS_OF_ONE = 4, 2**24, 3.0
# Words for the calls of a law whose result is wrong only because of an earlier call, or because numbers were changed.
_LATER = ("changed", "other", "overwritten")
# The symptoms that a mistake may predict.
PREDICTED = (Symptom.VALUES, Symptom.WRONG_SHAPE)
# Failures in a gradient that may have no other reason than a wrong result.
_CONSEQUENCES = (Symptom.REFUSED, Symptom.OTHER, Symptom.WRONG_SHAPE)
# The kinds of mistakes, the likeliest first: of several that predict all trials, the first is taken.
_KINDS = (windows, shapes, channels, outputs, numbers)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The mistake that explains a failure.

    Parameters
    ----------
    cause : str
        The identifier in the catalogue, or ``unknown``.
    evidence : str
        What supports it, or what is known instead, in a sentence.
    hypothesis : Hypothesis, optional
        The mistake with all its details; None if the cause is unknown or follows from what happened.
    trials : tuple of Trial
        The wrong results of one geometry that it explains.
    arithmetic : str
        The arithmetic within whose bound the results are, if that is what explains them.
    """

    cause: str
    evidence: str
    hypothesis: Hypothesis | None = None
    trials: tuple[Trial, ...] = ()
    arithmetic: str = ""

    @property
    def predicts(self) -> bool:
        """Whether it says what other failures of the bug look like."""
        return self.hypothesis is not None or bool(self.arithmetic)


def diagnosed(
    subject: Implementation, failure: Verdict, *, others: Sequence[Case] = (), seconds: float = SECONDS
) -> Diagnosis:
    """The mistake behind a failure.

    Parameters
    ----------
    failure : Verdict
        A failing verdict on a small case.
    others : sequence of Case
        Further cases that fail, perhaps for the same reason.
    seconds : float
        The search for a mistake ends after about this time.
    """
    failure = _steady(failure, subject)
    case = failure.call or failure.case
    of_gradient = GRADIENT * (failure.quantity != OUTPUT.of)
    if failure.symptom is Symptom.WRONG_SHAPE and (found := _of_shape(subject, failure, others, seconds)) is not None:
        return found
    if failure.symptom not in (Symptom.VALUES, Symptom.RELATION, Symptom.OTHER):
        name = failure.symptom.value
        name = name if name.startswith(GRADIENT) or of_gradient + name not in names() else of_gradient + name
        return Diagnosis(name, failure.said.partition("\n")[0])
    if failure.symptom is not Symptom.VALUES or isinstance(case, Call):
        return Diagnosis(UNKNOWN, failure.said.partition("\n")[0])
    end = time.process_time() + seconds
    subject.restart()
    first = tried(subject, case, failure.quantity)
    derived = isinstance(LAWS[str(failure.case.law)].check, DerivativeCheck)
    if derived and isinstance(failure.case, Case) and not (isinstance(first, Trial) and first.is_wrong):
        case = failure.case
        first = tried(subject, case, failure.quantity)
    if not isinstance(first, Trial) or not first.is_wrong:
        return _of_earlier_calls(subject, failure)
    if any(word in first.when for word in _LATER):
        return Diagnosis(f"{of_gradient}buffer-reused", f"right at first, and wrong {first.when}")
    if RECIPES[case.data].kind != "storage" or case.data == ONE_HOT:
        plain = tried(subject, case.replace(data="integers"), failure.quantity)
        if isinstance(plain, Trial) and plain.is_wrong:
            first = plain
        elif (arithmetic := _rounding(subject, failure.replace(case=case))) is not None:
            return _of_arithmetic(arithmetic, of_gradient)
    found = _predicted(subject, first, others, end)
    if found is None and RECIPES[case.data].kind == "storage":
        arithmetic = _rounding(subject, failure.replace(case=case))
        found = None if arithmetic is None else _of_arithmetic(arithmetic, of_gradient)
    elif found is not None:
        found = replace(found, cause=of_gradient + found.cause)
    if found is not None and not found.arithmetic and found.cause.removeprefix(GRADIENT) in _ROUNDING:
        found = replace(found, arithmetic=explanation(subject, failure.replace(case=case)) or "")
    return found or _of_memory(subject, first, of_gradient) or Diagnosis(UNKNOWN, _facts(first))


def _of_shape(subject: Implementation, failure: Verdict, others: Sequence[Case], seconds: float) -> Diagnosis | None:
    """The mistake that predicts another shape, with the numbers in it."""
    case = failure.call or failure.case
    if isinstance(case, Call) or failure.quantity != OUTPUT.of:
        return None
    data = case.data if RECIPES[case.data].kind == "storage" and case.data != ONE_HOT else "integers"
    first = tried(subject, case.replace(data=data))
    if not isinstance(first, Trial) or not first.is_misshapen:
        return None
    return _predicted(subject, first, others, time.process_time() + seconds)


def _of_memory(subject: Implementation, first: Trial, of_gradient: str) -> Diagnosis | None:
    """The diagnosis if the numbers change with what new memory held before, or from call to call."""
    filled = [tried(other, first.case, first.quantity) for other in subject.poisoned()]
    if any(isinstance(trial, Trial) and not trial.explained_by(first.actual) for trial in filled):
        return Diagnosis(f"{of_gradient}stale-memory", "the numbers change with what new memory held before")
    again = tried(subject, first.case, first.quantity)
    if isinstance(again, Trial) and not again.explained_by(first.actual):
        return Diagnosis(f"{of_gradient}nondeterministic", "the numbers change from call to call")
    return None


def _of_special_numbers(wrong: Sequence[Trial]) -> Diagnosis | None:
    """The mistake that predicts several calls whose numbers no recipe draws, such as a kernel of zeros and a one."""
    if len(wrong) <= CONFIRMED:
        return None
    found = next((one for one in _hypotheses(wrong[0]) if all(one.explains(trial) for trial in wrong)), None)
    return None if found is None else Diagnosis(found.cause, _evidence(found, wrong, 0, None), found, tuple(wrong))


def _steady(failure: Verdict, subject: Implementation) -> Verdict:
    """A failure whose numbers change between runs, as it is in fresh processes, or with memory that is filled.

    It may change only because of what earlier calls left, or because memory does.
    """
    law = LAWS.get(str(failure.case.law))
    if failure.symptom is not Symptom.CHANGING or failure.difference is None or law is None:
        return failure
    filled = [[law(other, failure.case).actual for _ in range(2)] for other in subject.poisoned()]
    steady = bool(filled) and all(first == again for first, again in filled)
    if steady and len({first for first, _ in filled}) > 1:
        return failure.replace(symptom=Symptom.STALE)
    fresh = []
    for _ in range(2):
        subject.restart()
        fresh.append(law(subject, failure.case))
    repeated = (law(subject, failure.case) for _ in range(_REPEATED))  # in the last of the fresh processes
    if all(verdict.status is Status.PASS for verdict in (*fresh, *repeated)):
        return failure.replace(
            symptom=Symptom.BUFFER, message="right in a fresh process, and wrong after earlier calls"
        )
    same = fresh[0].status.is_failure and fresh[0].difference == fresh[1].difference
    return fresh[0] if same else failure


def _rounding(subject: Implementation, failure: Verdict) -> str | None:
    """The arithmetic within whose bound the results are, unless the product of 1 and 1 is wrong; None without one."""
    name = explanation(subject, failure)
    case = failure.case
    if name is None or isinstance(case, Call) or _of_arithmetic(name, "").cause == "transformed":
        return name  # a transform may spoil any product
    return None if _is_wrong_for_one(subject, case, failure.quantity) else name


def _is_wrong_for_one(subject: Implementation, case: Case, quantity: str) -> bool:
    """Whether the product of 1 and 1 is wrong, which no rounding of numbers or sums can be."""
    trials = [tried(subject, plain, quantity) for plain in one_hot_cases(case.replace(data="integers"), DRAWS)]
    return any(isinstance(trial, Trial) and trial.is_wrong for trial in trials)


def _of_arithmetic(name: str, of_gradient: str) -> Diagnosis:
    said = ARITHMETICS[name].statement.rstrip(".")
    cause = next((cause for words, cause in _ARITHMETICS if words in name), "narrow-accumulator")
    evidence = f"within the bound of the arithmetic {name} on 8 fresh draws: {said}"
    return Diagnosis(of_gradient + cause, evidence, arithmetic=name)


def _of_earlier_calls(subject: Implementation, failure: Verdict) -> Diagnosis:
    """The diagnosis if the call is right alone."""
    law = LAWS.get(str(failure.case.law))
    if law is not None and isinstance(failure.case, Case):
        calls = list(wrong_calls(subject, law, failure.case, DRAWS + 1))
        if calls and all(call.alone for call in calls):
            found = _of_special_numbers([call.trial for call in calls])
            if found is not None:
                return found
        elif calls:
            kept = next((f"takes {call.kept}" for call in calls if call.kept), "is wrong after earlier calls")
            return Diagnosis("buffer-reused", f"a call that is right alone {kept}")
    if law is not None:
        subject.restart()
        alone = law(subject, failure.case).status.is_failure
        if not alone and any(law(filled, failure.case).status.is_failure for filled in subject.poisoned()):
            of_gradient = GRADIENT * (failure.quantity != OUTPUT.of)
            return Diagnosis(f"{of_gradient}stale-memory", "it fails only if new memory holds something else than zero")
    if failure.case.law == CONTRACT.name:
        return Diagnosis("buffer-reused", "the call is right alone, and wrong when repeated after others")
    return Diagnosis(UNKNOWN, f"the call is right alone, and wrong after other calls of the law {failure.case.law}")


def _predicted(subject: Implementation, first: Trial, others: Sequence[Case], end: float) -> Diagnosis | None:
    """The mistake that predicts the results of the case with fresh data, and best those of other geometries."""
    same = [first, *_draws(subject, first)]
    wrong = [trial for trial in same if trial.is_wrong]
    fresh: list[Trial] | None = None
    best: tuple[tuple[int, int], Hypothesis] | None = None
    for hypothesis in _hypotheses(first):
        if time.process_time() > end:
            break
        if not all(hypothesis.explains(trial) for trial in wrong):
            continue
        if fresh is None:
            fresh = list(_elsewhere(subject, first, others, end))
        matched = sum(hypothesis.explains(trial) for trial in fresh if trial.is_wrong)
        untouched = sum(_agrees(hypothesis, trial) for trial in (*same, *fresh) if not trial.is_wrong)
        if best is None or (matched, untouched) > best[0]:
            best = (matched, untouched), hypothesis
        if matched + untouched == len(same) - len(wrong) + len(fresh):
            break  # no other mistake can do better
    if best is None or fresh is None:
        return None
    (matched, _), found = best
    if 2 * matched < sum(trial.is_wrong for trial in fresh) or len(wrong) - 1 + matched < CONFIRMED:
        return None
    return Diagnosis(found.cause, _evidence(found, wrong, matched, fresh), found, tuple(wrong))


def _hypotheses(trial: Trial) -> Iterator[Hypothesis]:
    if trial.quantity != OUTPUT.of:
        yield outputs.MISSING
    for kind in (shapes,) if trial.is_misshapen else _KINDS:
        yield from kind.hypotheses(trial)


def _agrees(hypothesis: Hypothesis, trial: Trial) -> bool:
    """Whether the mistake changes nothing in a trial whose result is right."""
    predicted = hypothesis.predict(trial)
    return predicted is None or (predicted.shape == trial.truth.shape and bool((predicted == trial.truth).all()))


def _draws(subject: Implementation, first: Trial) -> Iterator[Trial]:
    """The same geometry with other numbers."""
    for draw in range(1, DRAWS + 1):
        trial = tried(subject, first.case.replace(seed=(first.case.seed + draw) % 2**64), first.quantity)
        if isinstance(trial, Trial):
            yield trial


def _elsewhere(subject: Implementation, first: Trial, others: Iterable[Case], end: float) -> Iterator[Trial]:
    """Other geometries: larger ones, and those of further failures that meet the necessary conditions of the case."""
    found, needed = 0, necessary(first.case)
    for case in itertools.chain(grown_cases(first.case, GEOMETRIES), filter(needed.holds, others)):
        if found >= ENOUGH or time.process_time() > end:
            return
        trial = tried(subject, case, first.quantity)
        if isinstance(trial, Trial):
            found += trial.is_wrong
            yield trial


def _evidence(found: Hypothesis, wrong: Sequence[Trial], matched: int, fresh: Sequence[Trial] | None) -> str:
    inputs = f"{len(wrong)} random inputs" if len(wrong) > 1 else "1 random input"
    elsewhere = [trial for trial in fresh or () if trial.is_wrong]
    said = f"here: {found.detail}; " if found.detail else ""
    said += f"predicts every number for {inputs}"
    if elsewhere:
        said += f", and for {matched} of {len(elsewhere)} failing cases of other sizes"
    elif fresh:
        said += "; no other sizes that were tried fail"
    return said


def _facts(first: Trial) -> str:
    """What is known if no mistake of the catalogue explains the failure."""
    return f"nothing in the catalogue explains what is wrong: {int(first.wrong.sum())} of {first.truth.numel()} numbers"


def tells_by_one_result(case: Case) -> bool:
    """Whether a convolution is small enough for :func:`of_one_result`."""
    return case.geometry.nnz * (case.batch or 1) <= _MOST_PRODUCTS


def of_one_result(trial: Trial) -> str:
    """The mistake that a single wrong result shows, in words; empty if it shows none.

    Nothing can be tried again here. So only a result with many wrong numbers tells of a mistake, and a small one is
    looked at in full.
    """
    if min(int(trial.wrong.sum()), trial.actual.numel()) < _FEWEST_WRONG:
        return ""
    end = time.process_time() + _SECONDS_OF_ONE
    for hypothesis in _hypotheses(trial):
        if time.process_time() > end:
            break
        if hypothesis.explains(trial):
            detail = f" ({hypothesis.detail})" if hypothesis.detail else ""
            return f"{hypothesis.cause}{detail}, which explains all {trial.actual.numel():,} numbers"
    return ""


def explains(subject: Implementation, known: Diagnosis, failure: Verdict) -> bool:
    """Whether the mistake behind one failure explains another one of the subject too.

    Details that the first failure could not show may differ: a kernel of one row is the same whether its rows are
    reversed or not. So it may be any mistake with the same identifier that explains both.
    """
    case, quantity = failure.call or failure.case, failure.quantity
    if isinstance(case, Call):
        return False
    if known.arithmetic and failure.symptom is Symptom.VALUES and failure.index is not None:
        # The mistake needs one call, the arithmetic many.
        mistake = known.hypothesis
        trial = None if mistake is None else tried(subject, case, quantity)
        if mistake is not None and isinstance(trial, Trial) and trial.is_wrong and mistake.explains(trial):
            return True
        if explanation(subject, failure.replace(case=case), (known.arithmetic,)) is not None:
            return True
    if known.hypothesis is None:
        return False
    law = LAWS.get(str(failure.case.law))
    if failure.symptom is Symptom.REFUSED and shapes.have_no_window(known.hypothesis.cause, case):
        return True
    if failure.symptom in _CONSEQUENCES and law is not None and law.procedure != "forward":
        case, quantity = case.replace(law=None), OUTPUT.of
    elif failure.symptom not in PREDICTED:
        return False
    # Exact numbers tell more, if the failure shows with them too. A law's call may be wrong for its own numbers, and
    # right for those that its recipe draws first.
    for data, draw in itertools.product(dict.fromkeys(("integers", case.data)), range(DRAWS)):
        drawn = case.replace(data=data, seed=(case.seed + draw) % 2**64)
        trial = tried(subject, drawn, quantity)
        if isinstance(trial, Trial) and trial.is_wrong:
            alike = (one for one in _hypotheses(trial) if one.cause == known.hypothesis.cause)
            both = (trial, *known.trials)
            return known.hypothesis.explains(trial) or any(all(map(one.explains, both)) for one in alike)
    return False
