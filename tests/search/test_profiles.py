"""Profiles of effort, and the failures that a run remembers for the next."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis.database import InMemoryExampleDatabase
from torch import Tensor

from tests.helpers.running import Bench, search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.remembered import Remembered, default_database
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.options import merged_options
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.support.files import cache_directory

EXACT = LAWS["forward-exact"]
STEP = Step("mine:conv2d", "forward-exact", "float32", "cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory for the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def no_groups(*args: Tensor) -> Tensor:
    """A convolution that is wrong with groups."""
    y = conv2d(*args)
    return y.zero_() if args[-1] > 1 else y


def night(function: Callable[..., Tensor], **options: object) -> Result:
    """The result of a short nightly run of one law on a function."""
    options = {"profile": "nightly", "examples": 100, "remembers": True} | options
    return Bench([TorchSubject("mine:conv2d", function)], [EXACT], **options).result()


def planned(**options: object) -> Plan:
    """The plan of a nightly run, or of another run if the options say so."""
    return Plan.of(merged_options({"profile": "nightly"} | options), ["torch"])


def memory(step: Step = STEP) -> Remembered:
    """The failures that this user's runs remember for a step."""
    return Remembered(step, default_database())


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="not run: the directory has another name here")
def test_the_memory_is_in_the_cache_of_the_user(cache: Path):
    """Failures are remembered in the user's cache directory, not in the working directory."""
    assert cache_directory() == cache / "toeplitz-core"
    memory().add([Case.parse("input=1x1x1x1 weight=1x1x1x1")])
    assert "input=1x1x1x1 weight=1x1x1x1" in {path.read_text() for path in cache.rglob("*") if path.is_file()}


def test_without_platformdirs_the_cache_is_a_temporary_directory(monkeypatch: pytest.MonkeyPatch):
    """Without platformdirs, the cache is a temporary directory."""
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert cache_directory() == Path(tempfile.gettempdir()) / "toeplitz-core"


def test_failures_can_be_kept_in_any_database():
    """Any Hypothesis database can remember failures, here one in memory."""
    database = InMemoryExampleDatabase()
    case = Case.parse("input=1x2x3x3 weight=2x1x1x1 groups=2")
    Remembered(STEP, database).add([case])
    assert Remembered(STEP, database).recall() == [case]
    assert memory().recall() == []


def test_what_failed_is_tried_first_and_forgotten_when_it_holds():
    """A failure of the last run is tried first in the next, until it passes."""
    found = night(no_groups)
    assert found.failure is not None
    assert memory().recall() == [found.failure.case]
    again = night(no_groups)
    assert (again.cases, again.failure) == (1, found.failure)
    assert night(conv2d).status is Status.PASS
    assert memory().recall() == []


@pytest.mark.parametrize(
    "other", [{"subject": "yours"}, {"law": "contract"}, {"dtype": "int8"}, {"device": "cuda:0"}], ids=str
)
def test_each_step_remembers_its_own(other: dict[str, str]):
    """A failure is remembered only for its subject, law, dtype and device."""
    memory().add([Case.parse("input=1x2x3x3 weight=2x1x1x1 groups=2")])
    assert memory(replace(STEP, **other)).recall() == []


@pytest.mark.parametrize("options", [{"seed": 1}, {"time": 1.0}, {"profile": "gate"}, {"profile": "smoke"}], ids=str)
def test_a_run_that_says_its_cases_depends_on_no_earlier_run(options: dict[str, object]):
    """Runs with a seed, in rounds, of the gate and of the smoke test remember nothing."""
    assert planned().remembers
    assert not planned(**options).remembers


def test_smoke_and_gate_are_deterministic_and_a_night_is_new():
    """Smoke and gate use seed 0; a nightly run draws a seed unless one is given."""
    assert [planned(profile=name).seed for name in ("smoke", "gate")] == [0, 0]
    assert planned().seed != planned().seed
    assert planned(seed=7).seed == 7


def test_nothing_is_remembered_where_nothing_is_to_be():
    """A run that does not remember writes nothing to the cache."""
    assert night(no_groups, remembers=False).status is Status.FAIL
    assert memory().recall() == []


@pytest.mark.parametrize(
    "line",
    [
        "input=1x2x3x3 weight=2x1x1x1 groups=2 layout=channels_last",
        "input=1x2x3x3 weight=2x1x1x1 groups=2 data=normal",
    ],
)
def test_what_this_run_cannot_try_is_left_for_one_that_can(line: str):
    """A remembered case that this run cannot try, because of its layout or data, is kept."""
    memory().add([Case.parse(line)])
    assert night(conv2d).status is Status.PASS
    assert memory().recall() == [Case.parse(line)]


@pytest.mark.parametrize("text", [b"", b"input=nonsense", b"\xff"])
def test_a_memory_that_cannot_be_read_is_none(text: bytes):
    """An unreadable line in the cache does not end a run."""
    default_database().save(memory()._key, text)
    assert night(conv2d).status is Status.PASS


def test_a_cache_that_cannot_be_written_ends_nothing(cache: Path):
    """A run works even if the cache cannot be written."""
    (cache / "toeplitz-core").write_text("a file, where a directory should be")
    assert night(no_groups).status is Status.FAIL
    assert night(conv2d).status is Status.PASS


def test_a_night_tries_many_convolutions():
    """With a target, most cases are still new geometries; the others are steps towards a larger error."""
    geometries = set()

    def check(_: object, case: Case) -> Verdict:
        geometries.add(case.geometry)
        return Verdict(Status.PASS, case, ratio=min(case.weight[0], 4) / 4)

    law = Law("made-up", "Made up.", "Nothing.", check, EXACT.recipes, EXACT.dtypes)
    subject = TorchSubject("torch", conv2d)
    found = search(law, subject, dtype="float32", profile="nightly", examples=1000)
    assert found.cases == 1000
    assert len(geometries) > 500
