"""Run cases again, several times each, and count their failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from toeplitz_core.memory import available_bytes
from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.explanation import explained
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.shared import SharedFailures
from toeplitz_core.testing.laws import LAWS, Law
from toeplitz_core.testing.laws.verdict import Excuse, Status, Verdict
from toeplitz_core.testing.search.repetition import without_chance
from toeplitz_core.testing.subjects.interface import Implementation
from toeplitz_core.testing.support.limits import ENOUGH, RUNS
from toeplitz_core.testing.support.spelling import named

# The oracle computes in float64, and needs several times the memory of the case's tensors.
_ORACLE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Replayed:
    """The gravest verdict of several runs of one case under one law.

    Parameters
    ----------
    verdict : Verdict
        The gravest one.
    runs, failures : int
        Number of runs, and number of runs that failed.
    known : Entry, optional
        The known failure that matches the verdict.
    shared : str, optional
        The name of the excuse, if the failure is shared with torch.
    """

    verdict: Verdict
    runs: int
    failures: int
    known: Entry | None = None
    shared: str | None = None


def parse(line: str) -> Case | Call:
    """Parse a line into a case or a call that can be run here.

    Raises
    ------
    ValueError
        If the line is wrong, the law is unknown, or the case does not fit into memory.
    """
    case = parse_line(line)
    if case.law is not None:
        named(f"law={case.law}", case.law, LAWS)
    if case.nbytes * _ORACLE_BYTES > (free := available_bytes(torch.device("cpu"))):
        raise ValueError(
            f"the case has tensors of {case.nbytes:,} bytes; judging it needs {_ORACLE_BYTES} times that, and only "
            f"{free:,} bytes are free"
        )
    return case


def read_cases(path: str | Path) -> list[Case | Call]:
    """Read the cases and calls of a file, one per line. Blank lines are skipped, and comments after ``#`` or `` # ``.

    Raises
    ------
    ValueError
        If the file or a line is wrong; the message has the file and the number of the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    cases = []
    for number, line in enumerate(lines, start=1):
        text = line.partition(" # ")[0].strip()
        if text and not text.startswith("#"):
            try:
                cases.append(parse(text))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
    if not cases:
        raise ValueError(f"{path}: the file has no case")
    return cases


def laws_of(case: Case | Call) -> list[Law]:
    """The law that a case names, or every law that applies to its data."""
    if isinstance(case, Call) or case.law:
        return [LAWS[str(case.law)]]
    return [law for law in LAWS.values() if law.takes(case)]


def replay(
    case: Case | Call,
    subject: Implementation,
    *,
    runs: int = RUNS,
    known: KnownFailures | None = None,
    strict: bool = False,
    enough: float = ENOUGH,
) -> Iterator[Replayed]:
    """Run a case again under each of its laws.

    Every other run begins in a fresh process: some failures need a fresh process, others need an earlier call. The runs
    under a law end early after a timeout, or if the case is unsupported or mistrusted. After ``enough`` seconds for
    the case, each remaining law has one run. With ``strict``, no failure is shared with torch.
    """
    begin = time.monotonic()
    for law in laws_of(case):
        verdicts: list[Verdict] = []
        while len(verdicts) < runs and (not verdicts or time.monotonic() - begin < enough):
            if len(verdicts) % 2 == 0 and verdicts:
                subject.restart()
            verdicts.append(law(subject, case))
            if verdicts[-1].status in (Status.TIMEOUT, Status.UNSUPPORTED, Status.MISTRUSTED):
                break
        found = _gravest(subject, verdicts, known, None if strict else SharedFailures(subject))
        if time.monotonic() - begin < enough:
            found = replace(found, verdict=without_chance(found.verdict, law, subject, verdicts))
        if found.failures == found.runs and found.verdict.status.is_failure:
            found = replace(found, verdict=explained(subject, found.verdict))
        yield found


def _gravest(
    subject: Implementation, verdicts: list[Verdict], known: KnownFailures | None, shared: SharedFailures | None
) -> Replayed:
    """The first failure without an excuse, or else the first failure, or else the last verdict."""
    failing = [verdict for verdict in verdicts if verdict.status.is_failure]
    if not failing:
        return Replayed(verdicts[-1], len(verdicts), 0)
    found, entry, excuse = failing[0], None, None
    for verdict in failing:
        listed = None if known is None else known.match(subject.name, verdict)
        if listed is not None:
            reason: Excuse | None = Excuse(Status.KNOWN, listed.name)
        else:
            reason = None if shared is None else shared(verdict)
        if verdict is found or reason is None:
            found, entry, excuse = verdict, listed, reason
        if reason is None:
            break
    if len(failing) < len(verdicts):
        found = found.replace(message=f"{found.message} (fails in {len(failing)} of {len(verdicts)} runs)")
    if excuse is not None:
        found = found.replace(status=excuse.status)
    name = excuse.name if excuse is not None and excuse.status is Status.SHARED else None
    return Replayed(found, len(verdicts), len(failing), entry, name)


def repeated(law: Law, subject: Implementation, case: Case | Call) -> Iterator[Verdict]:
    """The verdicts on a case that is run several times, and then with new memory filled with known values.

    A faulty result may consist of old memory contents, which can be right by chance for a long time.
    """
    for _ in range(RUNS):
        yield law(subject, case)
    for poisoned in subject.poisoned():
        yield law(poisoned, case)
