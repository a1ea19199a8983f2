"""The scripts of several findings, written in another process: the modules of their subjects are imported there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.reproducer.script import Shown, exportable, script
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.symptom import Symptom

# Seconds that all scripts together may take. Importing torch and the subjects takes most of them.
_ENOUGH = 120
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    f"from {__name__} import write_scripts; write_scripts(sys.stdin.read())"
)
# Their failures need memory that was filled.
_OF_MEMORY = (Symptom.STALE, Symptom.CHANGING)


@dataclass(frozen=True, slots=True)
class Script:
    """The script of a finding, or the reason why it is missing.

    Parameters
    ----------
    text : str
        Empty without a script.
    why : str
        The reason for a missing script; empty with a script.
    """

    text: str = ""
    why: str = ""


def scripts(findings: Sequence[Finding], declared: Declared | None = None) -> list[Script]:
    """The script of each finding, as ``export`` writes it. The scripts are not run.

    A subject's module may do anything when it is imported, so it is imported in a process that may end or hang.

    Parameters
    ----------
    declared : Declared, optional
        What the options of the run declare about the subjects.
    """
    if not findings:
        return []
    requests = [_request(finding, Declared() if declared is None else declared) for finding in findings]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        why = _run(json.dumps(requests), lines)
        lines.seek(0)
        written = [Script(**json.loads(line)) for line in lines if line.endswith("\n")]
    return [*written, *[Script(why=f"No script was written: {why}.")] * (len(findings) - len(written))]


def _run(requests: str, lines: Any) -> str:
    """Write the scripts into a file, and say why some are missing."""
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path)]
    nowhere = subprocess.DEVNULL
    try:
        # What the modules print is lost on purpose.
        ended = subprocess.run(
            command, input=requests, stdout=lines, stderr=nowhere, text=True, timeout=_ENOUGH, check=False
        )
    except subprocess.TimeoutExpired:
        return f"importing the subjects and writing took more than {_ENOUGH} seconds"
    return f"the process that imports the subjects ended with exit code {ended.returncode}"


def _request(finding: Finding, declared: Declared) -> dict[str, Any]:
    failure = finding.failure
    varies = failure.difference is not None and bool(failure.difference.varies)
    chosen = failure.call if not exportable(failure.case) and failure.call is not None else failure.case
    return {
        "case": str(chosen),
        "subject": finding.subject,
        "declared": asdict(declared),
        "shown": {
            "status": failure.status.value,
            "message": failure.message,
            "memory": varies or failure.symptom in _OF_MEMORY,
            "quantity": failure.quantity,
        },
    }


def write_scripts(requests: str) -> None:
    """Write a line with a script, or the reason for a missing one, for each request; for the other process."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # what a module prints is no script
        for request in json.loads(requests):
            out.write(json.dumps(asdict(_written(request))) + "\n")
            out.flush()


def _written(request: dict[str, Any]) -> Script:
    shown = Shown(**request["shown"] | {"status": Status(request["shown"]["status"])})
    of = request["declared"]
    declared = Declared(of["differentiable"], tuple(of["dtypes"]), tuple(of["arithmetic"]))
    try:
        return Script(script(parse_line(request["case"]), request["subject"], shown, declared))
    except ValueError as error:
        return Script(why=f"There is no script: {error}.")
    except Exception as error:  # noqa: BLE001  # the module of a subject may raise anything
        return Script(why=f"There is no script: importing the subject raises {type(error).__name__}: {error}.")
