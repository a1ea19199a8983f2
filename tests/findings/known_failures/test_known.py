"""Known failures: each entry matches only its own failure, in a list and in a search."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.known_failures import ENTRY, GROUPED, failing, load
from tests.helpers.running import search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.known_failures.known_file import KnownFile
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.exit_code import exit_code
from toeplitz_core.testing.search.search import LawError
from toeplitz_core.testing.subjects import TorchSubject

# The list


def test_entry_is_narrow(tmp_path: Path):
    """An entry matches only failures with its subject, law, status, message and condition."""
    known = load(ENTRY, tmp_path)
    assert known.match("mine", failing()) is known.entries[0]
    assert known.match("mine", failing(status=Status.CRASH)) is known.entries[0]
    assert known.match("mine", failing("input=1x4x3x3 weight=4x1x1x1 groups=4")) is known.entries[0]
    assert known.match("mine2", failing()) is None
    assert known.match("mine", failing(law="forward-bound")) is None
    assert known.match("mine", failing("input=1x2x1x1 weight=2x2x1x1")) is None
    for status in set(Status) - {Status.FAIL, Status.CRASH, Status.TIMEOUT}:
        assert known.match("mine", failing(status=status)) is None
    said = load(ENTRY + 'message = "wrong"\n', tmp_path)
    assert said.match("mine", failing()) is None
    assert said.match("mine", failing().replace(message="all wrong")) is said.entries[0]
    crash = load(ENTRY + 'status = "crash"\n', tmp_path)
    assert crash.match("mine", failing()) is None
    assert crash.match("mine", failing(status=Status.CRASH)) is crash.entries[0]
    several = load(ENTRY.replace('"mine"', '["other", "mine"]'), tmp_path)
    assert several.match("mine", failing()) is several.match("other", failing()) is several.entries[0]


@pytest.mark.parametrize(
    ("versions", "applies"),
    [
        ('torch = "<1"', False),
        ('torch = ">=2"', True),
        ('torch = ">=2", numpy = "<1"', False),
        ('torch = ">=2", numpy = ">=1"', True),
        ('no_such_package_of_mine = ">=0"', False),
        (f'torch = "=={torch.__version__.partition("+")[0]}"', True),
    ],
)
def test_entry_is_for_its_versions(tmp_path: Path, versions: str, applies: bool):
    """An entry matches only if every package that it names is installed in a matching version."""
    known = load(f"{ENTRY}versions = {{ {versions} }}\n", tmp_path)
    assert known.entries[0].applies is applies
    assert (known.match("mine", failing()) is not None) is applies


@pytest.mark.parametrize(
    ("processor", "unmet"),
    [
        ('"amx_bf16"', ""),
        ('["amx_bf16", "no avx512_fp16"]', ""),
        ('"no amx_bf16"', "a processor with no amx_bf16, and this one has it"),
        ('["amx_bf16", "avx512_fp16"]', "a processor with avx512_fp16, and this one has none"),
    ],
)
def test_entry_is_for_its_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: str, unmet: str
) -> None:
    """An entry matches only if the processor has all features that it names, and none that it excludes."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_fp16": False})
    known = load(f"{ENTRY}processor = {processor}\n", tmp_path)
    assert known.entries[0].unmet == unmet
    assert (known.match("mine", failing()) is None) is bool(unmet)
    assert KnownFailures((Entry.parse(tomllib.loads(str(known.entries[0]))["failure"][0], 1),)) == known


def test_first_entry_counts(tmp_path: Path):
    """If two entries match a failure, the first one counts."""
    known = load(ENTRY + ENTRY.replace("no-groups", "again"), tmp_path)
    matched = known.match("mine", failing())
    assert matched is not None
    assert matched.name == "no-groups"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("reason", "raison"), "failure 1: unknown key 'raison'; did you mean 'reason'?"),
        (lambda t: t.replace('law = "forward-exact"', ""), "failure 1: key 'law' is missing"),
        (lambda t: t.replace("-exact", "-exat"), "failure 1: law='forward-exat': did you mean 'forward-exact'?"),
        (lambda t: t.replace("groups > 1", "groups > 2"), "failure 1: condition='groups > 2' must hold for"),
        (lambda t: t.replace("groups > 1", "group > 1"), "failure 1: condition='group > 1': unknown name 'group'"),
        (lambda t: t.replace("weight=2x1", "weight=2x7"), "failure 1: example='input=1x2x1x1 weight=2x7"),
        (lambda t: t.replace("groups=2", "groups=2 law=forward-bound"), "must name law=forward-exact, or none"),
        (lambda t: t.replace('"mine"', "3"), "failure 1: subject=3 must be a string or a list"),
        (lambda t: t.replace('"mine"', "[3]"), "failure 1: subject: 3 must be a string"),
        (lambda t: t.replace('"mine"', "[]"), "failure 1: subject=[] must be one or more names"),
        (lambda t: t.replace("It takes the first group for all.", " "), "failure 1: reason='' must not be empty"),
        (lambda t: t + 'status = "pass"', "failure 1: status='pass': legal: fail, crash, timeout"),
        (lambda t: t + 'versions = "2.13"', "failure 1: versions='2.13' must be a table"),
        (lambda t: t + "versions = { torch = 2 }", "failure 1: versions: 2 must be a string"),
        (lambda t: t + 'processor = "without amx"', "failure 1: processor='without amx' must be a feature such as"),
        (lambda t: t + 'versions = { torch = "2.13" }', "failure 1: versions.torch='2.13' must be a PEP 440 specifier"),
        (lambda t: t + ENTRY.replace("reason", "raison"), "failure 2: unknown key 'raison'"),
        (lambda t: t + ENTRY, "known.toml: name='no-groups' must be the name of one entry only"),
        (lambda t: t + "[other]", "known.toml: unknown key 'other'; legal: [[failure]]"),
        (lambda _: "failure = 3", "known.toml: failure must be tables: [[failure]]"),
        (lambda t: t + "[[", "known.toml: "),
    ],
)  # fmt: skip
def test_error_says_where_and_what(tmp_path: Path, change: Callable[[str], str], said: str):
    """An error in a list names the file, entry, key, value and rule."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared below
        load(change(ENTRY), tmp_path, laws=("forward-exact", "forward-bound"))
    assert str(caught.value).startswith(str(tmp_path / "known.toml"))
    assert said in str(caught.value)


def test_file_that_is_not_there(tmp_path: Path):
    """A missing file is an error, not an empty list."""
    with pytest.raises(ValueError, match="No such file"):
        KnownFailures.load(tmp_path / "none.toml")


@given(reason=st.text(min_size=1).filter(str.strip), subject=st.text(min_size=1).filter(str.strip))
def test_entry_round_trip(reason: str, subject: str):
    """An entry's text parses back to the same entry, with any strings."""
    case = Case.parse(GROUPED)
    versions = (("torch", ">=2"), ("zope.interface", ""))
    entry = Entry("n", (subject, "b"), ("law", "other"), Condition("groups > 1"), case, reason, versions, link="x")
    (table,) = tomllib.loads(str(entry))["failure"]
    assert Entry.parse(table, 1) == entry


def test_without_tomlkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without tomlkit, the error names the extra that has it."""
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    with pytest.raises(ValueError, match=r"write-known needs tomlkit, .*: pip install 'toeplitz-core\[testing\]'"):
        KnownFile(tmp_path / "known.toml")


# In a search


def takes_the_first_group(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Returns zeros if there are groups, and adds one if there is a bias."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return torch.zeros_like(y) if groups > 1 else y if b is None else y + 1


def hunt(
    known: KnownFailures | None,
    examples: int = 100,
    function: Callable[..., torch.Tensor] = takes_the_first_group,
    seed: int = 0,
) -> Result:
    """Search with the gate's settings in float32."""
    subject = TorchSubject("mine", function)
    return search(LAWS["forward-exact"], subject, dtype="float32", examples=examples, known=known, seed=seed)


BIAS = (
    ENTRY.replace("no-groups", "bias")
    .replace("groups > 1", "bias")
    .replace(GROUPED, "input=1x1x1x1 weight=1x1x1x1 bias")
)


def test_search_goes_on_beyond_a_known_failure(tmp_path: Path):
    """A known failure is counted but does not end the search, even if another failure shrinks to it."""
    result = hunt(None)
    assert result.failure is not None
    groups = load(ENTRY, tmp_path)
    results = [hunt(groups, seed=seed) for seed in range(8)]
    for result in results:
        assert result.status is Status.FAIL
        assert result.failure is not None
        assert (result.failure.case.groups, result.failure.case.bias) == (1, True)
        assert result.counts[Status.KNOWN] == result.known["no-groups"]
    # In some of these searches the other fault comes first.
    assert {name for result in results for name in result.known} == {"no-groups"}
    bias = load(BIAS, tmp_path)
    result = hunt(bias)
    assert result.failure is not None
    assert (result.failure.case.groups > 1, result.failure.case.bias) == (True, False)


def test_known_failure_met_while_shrinking_is_not_counted(tmp_path: Path):
    """Known failures are not counted while another failure is being shrunk."""

    def raises(*_: object) -> torch.Tensor:
        raise RuntimeError

    known = load(ENTRY.replace("groups > 1", "groups == 1").replace(GROUPED, "input=1x1x1x1 weight=1x1x1x1"), tmp_path)
    result = hunt(known, function=raises)
    assert result.failure is not None
    assert result.failure.case.groups == 2
    assert result.known == {"no-groups": result.counts[Status.KNOWN]}
    assert result.cases == result.counts[Status.KNOWN] + 1


def test_all_failures_known(tmp_path: Path):
    """A law that fails only as listed has the status known, neither pass nor failure."""
    result = hunt(load(ENTRY + BIAS, tmp_path))
    assert result.status is Status.KNOWN
    assert result.failure is None
    assert result.cases == 100
    assert result.known.total() == result.counts[Status.KNOWN] > result.known["bias"] > 0
    assert exit_code([result]) == 0


def test_list_of_others_changes_nothing(tmp_path: Path):
    """A list for other subjects does not change a search."""
    assert hunt(load(ENTRY.replace("mine", "theirs"), tmp_path)) == hunt(None)


def test_adopted_search_is_known():
    """An adopted failure is known in the next search, so each round finds another failure."""
    known = KnownFailures()
    for _ in range(3):
        found = hunt(known)
        if found.failure is None:
            break
        known = known.adopt([found], "2030-01-02")
    assert hunt(known).status is Status.KNOWN
    assert len(known.entries) == 2


def test_error_in_a_list_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An error in matching is an error of the suite, not a failure of the subject."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(KnownFailures, "match", broken)
    with pytest.raises(LawError):
        hunt(load(ENTRY, tmp_path))
