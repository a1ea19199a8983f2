"""The script of a case: the case is run first, because its law may find the failure in another call."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

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
# Seconds that a script may take.
_ENOUGH = 120


@dataclass(frozen=True, slots=True)
class Exported:
    """The script of a case.

    Parameters
    ----------
    text : str
    failed : bool
        Whether the case failed when it was run here.
    shown : bool
        Whether the script failed when it was run here.
    """

    text: str
    failed: bool
    shown: bool


def exit_code(text: str) -> int:
    """The exit code of a script in a new interpreter; 1 if it does not end in time."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "script.py"
        file.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run(
                [sys.executable, str(file)], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ENOUGH, check=False
            )
        except subprocess.TimeoutExpired:
            return 1
    return ended.returncode


def exported(
    case: Case | Call,
    subject: Implementation,
    declared: Declared | None = None,
    *,
    run: Callable[[str], int] = exit_code,
) -> Exported:
    """Run a case under its law, or under each law that applies to it, and write the script of the failure.

    If the law makes several calls, the script shows the one that is wrong alone. The script is run too. If it does not
    fail, it is written again for a failure that depends on what memory held. If the case holds, the script has the test
    of its law.

    Parameters
    ----------
    case : Case or Call
    subject : Implementation
        The subject under the name by which it is imported, in a separate process unless the run is inline.
    declared : Declared, optional
        What the options of the run declare about the subject.
    run : callable
        Runs a script and returns its exit code.

    Raises
    ------
    NotExportable
        If no script can show the failure, with the reason.
    """
    laws = laws_of(case)
    verdict, memory = _failure(laws, subject, case)
    if verdict is None:
        first = next((law for law in laws if exportable(case.replace(law=law.name))), laws[0])
        return Exported(script(case.replace(law=first.name), subject.name, None, declared), failed=False, shown=False)
    found = verdict if memory else attributed(verdict, subject)
    if not exportable(found.case) and verdict.call is not None:
        found = found.replace(case=verdict.call)
    how = Shown(found.status, found.message, memory, found.quantity)
    plain = script(found.case, subject.name, how, declared)
    if run(plain):
        return Exported(plain, failed=True, shown=True)
    second = script(found.case, subject.name, replace(how, memory=True), declared)
    shown = not memory and run(second) != 0
    return Exported(second if shown else plain, failed=True, shown=shown)


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
