"""The script of a case: the case is run first, because its law may find the failure in another call."""

from __future__ import annotations

from dataclasses import dataclass

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.replay import laws_of
from toeplitz_core.testing.findings.reproducer.script import Shown, exportable, script
from toeplitz_core.testing.findings.reproducer.targets import NotExportable
from toeplitz_core.testing.laws.attribution import attributed
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.interface import Implementation

# A failure that does not occur in each of this many runs may depend on what memory held.
_RUNS = 3


@dataclass(frozen=True, slots=True)
class Exported:
    """The script of a case.

    Parameters
    ----------
    text : str
    failed : bool
        Whether the case failed when it was run here.
    """

    text: str
    failed: bool


def exported(case: Case | Call, subject: Implementation, declared: Declared | None = None) -> Exported:
    """Run a case under its law, or under each law that applies to it, and write the script of the failure.

    If the law makes several calls, the script shows the one that is wrong alone. If the case holds, the script has the
    test of its law, and ends with 0.

    Parameters
    ----------
    case : Case or Call
    subject : Implementation
        The subject under the name by which it is imported, in a separate process unless the run is inline.
    declared : Declared, optional
        What the options of the run declare about the subject.

    Raises
    ------
    NotExportable
        If no script can show the failure, with the reason.
    """
    laws = laws_of(case)
    verdict, memory = _failure(laws, subject, case)
    if verdict is None:
        shown = next((law for law in laws if exportable(case.replace(law=law.name))), laws[0])
        return Exported(script(case.replace(law=shown.name), subject.name, None, declared), failed=False)
    found = verdict if memory else attributed(verdict, subject)
    if not exportable(found.case) and verdict.call is not None:
        found = found.replace(case=verdict.call)
    shown_as = Shown(found.status, found.message, memory, found.quantity)
    return Exported(script(found.case, subject.name, shown_as, declared), failed=True)


def _failure(laws: list[Law], subject: Implementation, case: Case | Call) -> tuple[Verdict | None, bool]:
    """The failing verdict, and whether the failure depends on what memory held; None if the case holds."""
    unsupported = ""
    for law in laws:
        verdicts = []
        for _ in range(_RUNS):
            verdicts.append(law(subject, case))
            if verdicts[-1].status is not Status.FAIL:
                break
            subject.restart()
        failing = [verdict for verdict in verdicts if verdict.status.is_failure]
        if failing and len(failing) == len(verdicts):
            varies = failing[0].difference is not None and failing[0].difference.varies
            return failing[0], bool(varies)
        others = [law(poisoned, case) for poisoned in subject.poisoned()] if isinstance(case, Case) else []
        failing += [verdict for verdict in others if verdict.status.is_failure]
        if failing:
            return failing[0], True
        if verdicts[0].status is Status.UNSUPPORTED:
            unsupported = verdicts[0].message
    if unsupported and len(laws) == 1:
        raise NotExportable(f"the subject does not support the case: {unsupported}")
    return None, False
