"""A run as JUnit XML for CI systems: one test case per subject, law, dtype and device.

A law that fails is a ``failure``. There is an ``error`` if nothing is proven, if a required device is missing, or if
the run was interrupted or ended by an error of our own. A report is green only if the exit code is 0. A step is
``skipped``, with the reason, if it was not run, if the subject does not support it, or if it fails only in ways that
are known, shared with torch, or in the baseline. Properties count the mistrusted and unsupported cases, and those of
each known failure.
"""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from toeplitz_core.testing.findings.shared import in_words
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import EXCUSED, Status
from toeplitz_core.testing.reports.compared import comparison_facts
from toeplitz_core.testing.reports.finding_text import finding_lines
from toeplitz_core.testing.reports.text import verdict_lines
from toeplitz_core.testing.run.comparison.comparison import Comparison, Limits
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.record import UNPROVEN, Record, versions_and_platform
from toeplitz_core.testing.support.spelling import cases_of

# Characters that XML 1.0 (section 2.2) forbids, and the carriage return, which XML readers turn into a line feed.
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(record: Record, comparison: Comparison | None = None) -> str:
    """The document as text."""
    times = {"time": f"{record.timing.seconds:.3f}", "timestamp": record.timing.date}
    suite = ET.Element("testsuite", {"name": "toeplitz-core", **times})
    properties = ET.SubElement(suite, "properties")
    for name, value in (*versions_and_platform().items(), *record.options.items()):
        _property(properties, name, value)
    told: dict[str, str] = {}
    for result in record.results:
        required, details = result.device in record.required_devices, _details(record, result, told)
        finding = None if result.failure is None else record.finding_of(result.step, result.failure)
        message = "" if finding is None else finding.failure.message
        accepted = record.is_accepted(result)
        case = _case(result, required=required, accepted=accepted, message=message, details=details)
        case.set("time", f"{record.timing.steps.get(result.step, 0.0):.3f}")
        case.set("timestamp", record.timing.began.get(result.step, record.timing.date))
        suite.append(case)
    for result in record.unreached:
        suite.append(_case(result, required=False))
    for stale in record.stale:
        case = ET.SubElement(suite, "testcase", classname="known failures", name=_text(stale.entry.name))
        said = f"stale for {stale.subject}: {stale.why}"
        # A stale entry fails a run only with --fail-stale.
        fails = record.exit_code == ExitCode.NOTHING_PROVEN and record.options.get("fail_stale")
        _outcome(case, "error" if fails else "skipped", "stale", said)
    red = any(suite.find(f"testcase/{kind}") is not None for kind in ("failure", "error"))
    if record.error or (record.exit_code and not red):
        case = ET.SubElement(suite, "testcase", classname="toeplitz-core", name="run")
        _outcome(case, "error", *_why_red(record, comparison))
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
    root = ET.Element("testsuites", {"name": "toeplitz-core", "tests": str(len(cases)), **times})
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _why_red(record: Record, comparison: Comparison | None) -> tuple[str, str]:
    """Type and message of the error of a run that failed although none of its test cases did."""
    if record.error:
        return "error of toeplitz-core", record.error
    if record.ended != "completed":
        return record.ended, f"the run ended with exit code {record.exit_code}"
    if comparison is not None and (reasons := comparison.fails(Limits())):
        said = [f"{label}: {text}" for label, texts in comparison_facts(comparison) for text in texts]
        return ", ".join(reasons), "\n".join(said)
    if less := record.too_little_judged:
        return "judged too little", less
    ran = [result for result in record.results if result.status is not Status.NOT_RUN]
    held = {result.subject for result in ran if result.status in (Status.PASS, *EXCUSED)}
    without = ", ".join(dict.fromkeys(result.subject for result in ran if result.subject not in held))
    return "nothing proven", f"no law could be checked on {without}" if without else "nothing could be run"


def _details(record: Record, result: Result, told: dict[str, str]) -> str:
    """The text of each finding that a result shows; for those of earlier test cases, only where it stands."""
    blocks = []
    for failure in result.failures:
        number = record.number_of(result.step, failure)
        if number is None:
            blocks.append(verdict_lines(result.subject, failure))
            continue
        finding = record.findings[number - 1]
        if finding.id in told:
            blocks.append([f"F{number} {finding.cause} ({finding.id}): see {told[finding.id]}"])
        else:
            told[finding.id] = f"{result.law}[{result.dtype}-{result.device}]"
            blocks.append(finding_lines(finding, number, limit=None))
    return "\n\n".join(dict.fromkeys("\n".join(lines) for lines in blocks))


def _case(
    result: Result, *, required: bool, accepted: bool = False, message: str = "", details: str = ""
) -> ET.Element:
    name = f"{result.law}[{result.dtype}-{result.device}]"
    case = ET.Element("testcase", classname=_text(result.subject), name=_text(name))
    if file := _file(result.subject):
        case.set("file", _text(file))
    properties = ET.SubElement(case, "properties")
    _property(properties, "cases", result.cases)
    for status in UNPROVEN:
        if count := result.counts[status]:
            _property(properties, status, count)
    if result.refused:
        _property(properties, "refused", result.refused)
    if result.max_ratio is not None:
        _property(properties, "max_ratio", result.max_ratio)
    for arithmetic, count in result.assumed.items():
        _property(properties, f"assumed: {arithmetic}", cases_of(count))
    for entry, count in result.known.items():
        _property(properties, f"known: {entry}", cases_of(count))
    for name, count in result.shared.items():
        _property(properties, f"shared: {in_words(name)}", cases_of(count))
    excused = [*(f"known: {entry}" for entry in result.known), *(f"shared: {in_words(name)}" for name in result.shared)]
    if result.failure is not None and accepted:
        _outcome(case, "skipped", "in the baseline", message or result.failure.message, details)
    elif result.failure is not None and result.status.is_failure:
        _outcome(case, "failure", result.status.value, message or result.failure.message, details)
    elif result.nothing_proven:
        _outcome(case, "error", "nothing proven", result.message)
    elif result.status is Status.NOT_RUN and required:
        _outcome(case, "error", "device is missing", result.message)
    elif result.status in (Status.NOT_RUN, Status.UNSUPPORTED):
        _outcome(case, "skipped", result.status.value, result.message)
    elif result.status in EXCUSED:
        _outcome(case, "skipped", result.status.value, "; ".join(excused))
    return case


@functools.cache
def _file(subject: str) -> str:
    """The file of the module that a subject names, relative to the working directory; empty if it is not found."""
    module = subject.partition(":")[0]
    if module == subject:  # a registered name
        return ""
    for folder in map(Path, ("", *sys.path)):
        for file in (folder / f"{module.replace('.', '/')}.py", folder / module.replace(".", "/") / "__init__.py"):
            if file.is_file():
                found = file.absolute()
                return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)
    return ""


def _property(parent: ET.Element, name: str, value: object) -> None:
    ET.SubElement(parent, "property", name=_text(name), value=_text(str(value)))


def _outcome(case: ET.Element, kind: str, of: str, message: str, details: str = "") -> None:
    outcome = ET.SubElement(case, kind, type=of, message=_text(message))
    outcome.text = _text(details) or None


def _text(text: str) -> str:
    """Replace the characters that XML forbids by backslash escapes."""
    return _FORBIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
