"""Profiles of effort, and what a run remembers of the last one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.memory import Remembered
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.search.effort import PROFILES
from tests.running import search
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.support.files import cache_directory

EXACT = LAWS["forward-exact"]
MEMORY = Remembered("mine:conv2d", "forward-exact", "float32", "cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache directory, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def no_groups(*args: Tensor) -> Tensor:
    """Fails with groups."""
    y = conv2d(*args)
    return y.zero_() if args[-1] > 1 else y


def night(function: Callable[..., Tensor], **options: object) -> Result:
    """What a short nightly run says of a function under one law."""
    options = {"devices": ["cpu"], "profile": PROFILES["nightly"], "examples": 100} | options
    plan = Plan([TorchSubject("mine:conv2d", function)], [EXACT], ["float32"], **options)
    return plan.result(plan.steps[0])


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="not run: the directory has another name here")
def test_the_memory_is_in_the_cache_of_the_user(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """What is remembered is in the user's cache directory, where a relative one is none, and not where a run starts."""
    assert cache_directory() == cache / "toeplitz-core"
    assert MEMORY.path.is_relative_to(cache)
    for unfit in ("", "cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", unfit)
        assert cache_directory() == Path.home() / ".cache" / "toeplitz-core"


def test_what_failed_is_tried_first_and_forgotten_when_it_holds():
    """A failure of last night is tried first tonight, until it holds."""
    found = night(no_groups)
    assert found.failure is not None
    assert MEMORY.recall() == found.failure.case
    again = night(no_groups)
    assert (again.cases, again.failure) == (1, found.failure)
    assert night(conv2d).status is Status.PASS
    assert MEMORY.recall() is None


@pytest.mark.parametrize(
    "other", [{"subject": "yours"}, {"law": "contract"}, {"dtype": "int8"}, {"device": "cuda:0"}], ids=str
)
def test_each_step_remembers_its_own(other: dict[str, str]):
    """What fails on one device, say, is not tried first on another."""
    MEMORY.keep(Verdict(Status.FAIL, Case.parse("input=1x2x3x3 weight=2x1x1x1 groups=2")))
    assert replace(MEMORY, **other).recall() is None


@pytest.mark.parametrize("options", [{"seed": 1}, {"time": 1.0}, {"profile": PROFILES["gate"]}], ids=str)
def test_a_run_that_says_its_cases_depends_on_no_earlier_run(options: dict[str, object]):
    """With a seed, and in a gate, the same cases come every time, and nothing is written."""
    assert night(no_groups, **options).status is Status.FAIL
    assert MEMORY.recall() is None


@pytest.mark.parametrize(
    "line",
    [
        "input=1x2x3x3 weight=2x1x1x1 groups=2 layout=channels_last",
        "input=1x2x3x3 weight=2x1x1x1 groups=2 data=normal",
    ],
)
def test_what_this_run_cannot_try_is_left_for_one_that_can(line: str):
    """A layout that is not run in this process, or data that the law no longer takes, is not forgotten."""
    MEMORY.keep(Verdict(Status.FAIL, Case.parse(line)))
    assert night(conv2d).status is Status.PASS
    assert MEMORY.recall() == Case.parse(line)


@pytest.mark.parametrize("text", [b"", b"input=nonsense", b"\xff"])
def test_a_memory_that_cannot_be_read_is_none(text: bytes):
    """A file that somebody spoiled does not end a run."""
    MEMORY.path.parent.mkdir(parents=True)
    MEMORY.path.write_bytes(text)
    assert night(conv2d).status is Status.PASS


def test_a_cache_that_cannot_be_written_ends_nothing(cache: Path):
    """Without a memory the report alone has what failed."""
    (cache / "toeplitz-core").write_text("a file, where a directory should be")
    assert night(no_groups).status is Status.FAIL
    assert night(conv2d).status is Status.PASS


def test_a_night_tries_many_convolutions():
    """Most cases of a law with a target are new convolutions: of the others, each is a step towards a larger error."""
    geometries = set()

    def check(_: object, case: Case) -> Verdict:
        geometries.add(case.geometry)
        return Verdict(Status.PASS, case, ratio=min(case.weight[0], 4) / 4)

    law = Law("made-up", "Made up.", "Nothing.", check, EXACT.recipes, EXACT.dtypes)
    subject = TorchSubject("torch", conv2d)
    found = search(law, subject, dtype="float32", settings=PROFILES["nightly"].settings(examples=1000))
    assert found.cases == 1000
    assert len(geometries) > 500
