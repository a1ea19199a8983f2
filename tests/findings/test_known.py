"""Known failures: each entry matches only its own finding, and a stale entry is reported."""

from __future__ import annotations

import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.running import search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.attributes import ATTRIBUTES, CALL_ATTRIBUTES
from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.conditions import FUNCTIONS, Condition, necessary
from toeplitz_core.testing.findings.entry import Entry
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.replay import RUNS, repeated
from toeplitz_core.testing.findings.staleness import stale_entries
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.exit_code import exit_code
from toeplitz_core.testing.search.search import LawError
from toeplitz_core.testing.strategies.calls import calls
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.support.files import check_writable, write_atomically

GROUPED = "input=1x2x1x1 weight=2x1x1x1 groups=2"
CALL = "call input=int8[1x1x1x1] weight=int8[1x1x1x1]"
ENTRY = f"""
[[failure]]
name = "no-groups"
subject = "mine"
law = "forward-exact"
condition = "groups > 1"
example = "{GROUPED}"
reason = "It takes the first group for all."
"""


def load(text: str, directory: Path, **options: object) -> KnownFailures:
    """Load a list from a file with this text."""
    path = directory / "known.toml"
    path.write_text(text, encoding="utf-8")
    return KnownFailures.load(path, **options)


def failing(case: str = GROUPED, status: Status = Status.FAIL, law: str = "forward-exact") -> Verdict:
    """A failing verdict on a case."""
    return Verdict(status, Case.parse(case).replace(law=law), "out[0]=0, but should be 1")


def result(verdict: Verdict, subject: str = "mine") -> Result:
    """The result of a search that ended with this verdict after ten cases."""
    case = verdict.case
    failure = verdict if verdict.status.is_failure else None
    counts = Counter({Status.PASS: 9, verdict.status: 1})
    return Result(Step(subject, str(case.law), case.dtype, case.device), verdict.status, counts, failure=failure)


# Conditions


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("dtype == 'bfloat16' and device == 'cpu'", "input=1x1x1x1 weight=1x1x1x1 dtype=bfloat16"),
        ("device == 'cuda'", "input=1x1x1x1 weight=1x1x1x1 device=cuda:3"),
        ("seed % 2 and seed // 2 == 3 and -seed < 0", "input=1x1x1x1 weight=1x1x1x1 seed=7"),
        ("bias and not batched and batch == 1", "input=1x1x1 weight=1x1x1x1 bias"),
        ("batch == 0", "input=0x1x1x1 weight=1x1x1x1"),
        ("depthwise and in_channels == 2 == out_channels and group_channels == 1", GROUPED),
        ("any(k > 1 for k in kernel_size) and 2 not in kernel_size", "input=1x1x3x3 weight=1x1x3x1"),
        ("padding == ((0, 1), (1, 1)) and padding_name == 'same'", "input=1x1x5x5 weight=1x1x2x3 padding=same"),
        ("padding_name == '' and padding[0][1] == 2", "input=1x1x5x5 weight=1x1x3x3 padding=2"),
        ("output_size == (3, 2) and rank == 2", "input=1x1x5x5 weight=1x1x3x3 stride=1x2"),
        ("all_padding", "input=1x1x5x5 weight=1x1x1x1 padding=1x0"),
        ("not all_padding", "input=1x1x5x5 weight=1x1x2x1 padding=1x0"),
        ("layout_input == 'channels_last' and layout_weight == layout_grad == 'default'",
         "input=1x2x3x3 weight=1x2x1x1 layout.input=channels_last"),
        ("sum(d * (k - 1) for k, d in zip(kernel_size, dilation)) == 6", "input=1x1x9x9 weight=1x1x3x3 dilation=1x2"),
        ("max(stride) > min(stride) and len(stride) == 2", "input=1x1x9x9 weight=1x1x3x3 stride=1x2"),
        ("data in ('integers', 'probe')", "input=1x1x9x9 weight=1x1x3x3 data=probe"),
        ("all(s == 1 for s in stride if s < 2)", "input=1x1x9x9 weight=1x1x3x3 stride=2"),
        ("input_shape[-3] == 0 and weight_shape == (2, 0, 3, 3)", "call input=int8[1x0x5x5] weight=int8[2x0x3x3]"),
        ("input_dtype == 'int8' and bias_dtype == 'bool'", f"{CALL} bias=bool[1]"),
        ("devices == ('meta', 'cuda')", "call input=int8[1x1x1x1]@meta weight=int8[1x1x1x1]@cuda:1"),
        ("stride_numbers == (2, 2) and padding_numbers == (0, 1)", f"{CALL} stride=torch.tensor(2) padding=[0,1]"),
        ("stride_types == ('tuple', 'int', 'bool')", f"{CALL} stride=(2,True)"),
        ("padding_types == ('bytes',) and groups_types == ('float',)", f"{CALL} padding=b'same' groups=1.0"),
        ("stride_types == ('bool tensor',) and dilation_types == ('array of 0 axes',)",
         f"{CALL} stride=torch.tensor(True) dilation=numpy.array(1)"),
        ("call == 'call input=int8[1x1x1x1] weight=int8[1x1x1x1]'", CALL),
    ],
)  # fmt: skip
def test_condition_holds(text: str, case: str):
    """A condition can use the attributes of the case; if it holds, its negation does not."""
    assert Condition(text).holds(parse_line(case))
    assert not Condition(f"not ({text})").holds(parse_line(case))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dtype.upper() == 'FLOAT32'", "'dtype.upper()' is not allowed"),
        ("dtype.__class__", "'dtype.__class__' is not allowed"),
        ("().__class__.__bases__", "is not allowed"),
        ("__import__('os')", "is not allowed"),
        ("open('x')", "is not allowed"),
        ("any", "unknown name 'any'"),
        ("__builtins__", "unknown name '__builtins__'"),
        ("grups > 1", "unknown name 'grups'; did you mean 'groups'?"),
        ("(any)(stride)()", "is not allowed"),
        ("any(*stride)", "is not allowed"),
        ("max(stride, key=len)", "is not allowed"),
        ("lambda: 1", "is not allowed"),
        ("(x := groups)", "is not allowed"),
        ("groups if bias else 1", "is not allowed"),
        ("[s for s in stride]", "is not allowed"),
        ("{s for s in stride}", "is not allowed"),
        ("any(s > 1 for s in stride for t in stride)", "must have one generator with one 'for'"),
        ("any(any(t > s for t in stride) for s in stride)", "must have one generator with one 'for'"),
        ("max((s for s in stride), 1)", "must have one generator with one 'for'"),
        ("any(dtype for dtype in stride)", "must be variables not named like an attribute or function"),
        ("any(x for x.y in stride)", "must be variables not named like an attribute or function"),
        ("any(s async for s in stride)", "must"),
        ("9 ** 9", "'9 ** 9' is not allowed"),
        ("1 << 99", "'1 << 99' is not allowed"),
        ("groups == 1.5", "'1.5' is not allowed"),
        ("groups is None", "is not allowed"),
        ("f'{dtype}'", "is not allowed"),
        ("stride[::2]", "is not allowed"),
        (f"seed < {2**64 + 1}", "must be at most 2**64"),
        ("groups >", "must be a Python expression"),
        ("import os", "must be a Python expression"),
        ("", "must be a Python expression"),
        ("groups > 1 " * 100, "it has 1100 characters and must have at most 1000"),
        ("-" * 999 + "1", "nested too deeply"),
    ],
)  # fmt: skip
def test_condition_is_refused(text: str, said: str):
    """A condition that could access anything but the case, or be slow, is refused before it is evaluated."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared below
        Condition(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["stride * 99999999999 != 0", "stride[2] == 1", "groups > stride", "groups // 0 == 1",
                                  "max(s for s in stride if s > 9) == 1", "any(a for a, b, c in padding)",
                                  "any(s for s in groups)", "'a' * 99999999999 == ''"])  # fmt: skip
def test_unfit_condition_does_not_hold(text: str):
    """A condition that cannot be evaluated for a case does not hold, and fails fast."""
    begun = time.monotonic()
    assert not Condition(text).holds(Case.parse(GROUPED))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("groups == 1", CALL),
        ("groups_numbers == (1, 1)", "input=1x1x1x1 weight=1x1x1x1"),
        ("len(bias_shape) < 9", CALL),
        ("len(stride_numbers) < 9", f"{CALL} stride=1.0"),
    ],
)
def test_a_condition_on_a_case_is_none_on_a_call(text: str, line: str):
    """A condition on attributes of a case does not hold for a call, and vice versa."""
    assert not Condition(text).holds(parse_line(line))
    assert not Condition(f"not ({text})").holds(parse_line(line))


def test_every_attribute_is_documented():
    """Every attribute has a description, and none has the name of a function."""
    assert all(attribute.meaning for attribute in ATTRIBUTES.values())
    assert not {*ATTRIBUTES, *CALL_ATTRIBUTES} & set(FUNCTIONS)
    assert not set(ATTRIBUTES) & set(CALL_ATTRIBUTES)
    case, line = Case.parse(GROUPED), Call.parse(f"{CALL} bias=int8[1]")
    assert all(isinstance(attribute.of(case), bool | int | str | tuple) for attribute in ATTRIBUTES.values())
    assert all(attribute.meaning for attribute in CALL_ATTRIBUTES.values())
    assert all(isinstance(attribute.of(line), str | tuple) for attribute in CALL_ATTRIBUTES.values())


@given(case=cases())
def test_all_padding_is_what_a_count_of_taps_says(case: Case):
    """``all_padding`` agrees with a convolution of ones: a window that lies wholly in padding sums to 0."""
    g = case.geometry
    before = torch.nn.functional.pad(
        torch.ones(1, 1, *g.input_size, dtype=torch.float64), [p for pads in reversed(g.pads) for p in pads]
    )
    kernel = torch.ones(1, 1, *g.kernel_size, dtype=torch.float64)
    taps = torch.nn.functional.conv2d(before, kernel, None, g.stride, 0, g.dilation)
    assert Condition("all_padding").holds(case) == bool((taps == 0).any())


@given(case=cases() | calls())
def test_necessary_condition_holds_for_its_case(case: Case | Call):
    """The condition derived from a case holds for that case."""
    assert necessary(case).holds(case)


def test_necessary_condition_is_what_is_not_simplest():
    """A derived condition contains exactly the attributes that shrinking could not make simplest."""
    assert necessary(Case.parse(GROUPED)).text == "dtype == 'float32' and device == 'cpu' and groups >= 2"
    layout = "layout.input=channels_last layout.weight=transposed"
    line = f"input=0x4x5x1 weight=6x2x1x1 stride=3x1 padding=1x0 groups=2 bias dtype=float16 data=wide {layout}"
    parts = necessary(Case.parse(line)).text.split(" and ")
    assert parts == [
        "dtype == 'float16'", "device == 'cpu'", "data == 'wide'", "batch == 0", "groups >= 2", "group_channels >= 2",
        "out_channels >= 6", "input_size[0] >= 5", "stride[0] >= 3", "padding[0][0] >= 1", "padding[0][1] >= 1",
        "all_padding", "bias", "layout_input == 'channels_last'", "layout_weight == 'transposed'",
    ]  # fmt: skip


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


# Adopting


def test_adopted_failure_is_known(tmp_path: Path):
    """An adopted entry can be written and loaded again, and matches its failure."""
    path = tmp_path / "known.toml"
    found = failing(status=Status.CRASH).replace(message='a "quote", \x1b, \x7f, \\, \n and ⊗')
    known = KnownFailures().adopt([result(found, "torch-channels-last")], "2030-01-02")
    known.write(path)
    again = KnownFailures.load(path)
    assert [str(entry) for entry in again.entries] == [str(entry) for entry in known.entries]
    entry = again.match("torch-channels-last", found)
    assert entry is not None
    assert entry.reason == f"adopted on 2030-01-02: {found.message}"
    assert entry.status is Status.CRASH
    assert dict(entry.versions) == {"torch": f"=={torch.__version__.partition('+')[0]}"}
    assert entry.applies
    for subject in ("mine", "torch.nn.functional:conv2d"):  # not named after an installed package
        assert KnownFailures().adopt([result(found, subject)], "2030-01-02").entries[0].versions == ()
    assert "\nversions = { torch = " in path.read_text(encoding="utf-8")
    assert "[[failure]]\nname = " in path.read_text(encoding="utf-8")


def test_adopting_adds_what_is_lacking(tmp_path: Path):
    """An existing file keeps its text and comments, and gets only entries for failures that none matches yet."""
    path = tmp_path / "known.toml"
    path.write_text(f"# Mine.\n{ENTRY}", encoding="utf-8")
    known = KnownFailures.load(path)
    same = known.adopt([result(failing())], "2030-01-02")
    assert same == known
    other = failing("input=1x1x1x1 weight=1x1x1x1 bias")
    grown = known.adopt([result(failing()), result(other), result(other)], "2030-01-02")
    assert len(grown.entries) == 2
    for _ in range(2):  # the second time there is nothing to add
        grown.write(path)
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# Mine.\n{ENTRY}")
        assert len(tomllib.loads(text)["failure"]) == 2
    matched = KnownFailures.load(path).match("mine", other)
    assert matched is not None
    assert matched.name == "mine-forward-exact-float32-1"


def test_nothing_to_adopt(tmp_path: Path):
    """Without failures, the written list is empty and can be loaded."""
    path = tmp_path / "known.toml"
    passing = result(failing(status=Status.PASS))
    KnownFailures().adopt([passing], "2030-01-02").write(path)
    assert KnownFailures.load(path) == KnownFailures()


@given(reason=st.text(min_size=1).filter(str.strip), subject=st.text(min_size=1).filter(str.strip))
def test_entry_round_trip(reason: str, subject: str):
    """An entry's text parses back to the same entry, with any strings."""
    case = Case.parse(GROUPED)
    versions = (("torch", ">=2"), ("zope.interface", ""))
    entry = Entry("n", (subject, "b"), ("law", "other"), Condition("groups > 1"), case, reason, versions, link="x")
    (table,) = tomllib.loads(str(entry))["failure"]
    assert Entry.parse(table, 1) == entry


# Stale entries


@pytest.mark.parametrize(
    ("replayed", "met", "why"),
    [
        (Status.PASS, False, "its example holds"),
        (Status.PASS, True, "its example holds"),
        (Status.FAIL, False, None),
        (Status.FAIL, True, None),
        (Status.UNSUPPORTED, False, "it matches nothing; its example ends as unsupported: out[0]=0, but should be 1"),
        (Status.UNSUPPORTED, True, None),
        (Status.CRASH, False, "it matches nothing; its example ends as crash: out[0]=0, but should be 1"),
    ],
)
def test_stale_entry(tmp_path: Path, replayed: Status, met: bool, why: str | None):
    """An entry is stale if its example passes, or if it matches neither its example nor a case of the run."""
    known = load(f'{ENTRY}status = "fail"\n', tmp_path)
    ran = result(failing(status=Status.PASS))
    ran.known.update({"no-groups": 1} if met else {})
    stale = stale_entries(
        known.entries, [ran], lambda _, case: iter([Verdict(replayed, case, "out[0]=0, but should be 1")] * 2)
    )
    assert [(s.entry.name, s.subject, s.why) for s in stale] == ([] if why is None else [("no-groups", "mine", why)])


def test_failure_in_some_runs_is_not_stale(tmp_path: Path):
    """An entry is not stale if its example fails in one replay, after which the replays stop."""
    known = load(ENTRY, tmp_path)
    statuses = iter([Status.PASS, Status.PASS, Status.FAIL, Status.PASS])

    def replays(_: str, case: Case) -> Iterator[Verdict]:
        assert case.law == "forward-exact"
        return (Verdict(status, case) for status in statuses)

    assert stale_entries(known.entries, [result(failing(status=Status.PASS))], replays) == []
    assert list(statuses) == [Status.PASS]


def test_example_is_judged_by_the_first_law_that_takes_it(tmp_path: Path):
    """An example is judged only by the first law of its entry that takes it, because other laws may pass."""
    laws = '["forward-bound", "forward-exact", "strides"]'
    known = load(ENTRY.replace('law = "forward-exact"', f"law = {laws}"), tmp_path)
    replayed = []

    def stale(*ran: str) -> list[str]:
        def replays(_: str, case: Case) -> Iterator[Verdict]:
            replayed.append(case.law)
            return iter([Verdict(Status.PASS, case)])

        results = [result(failing(status=Status.PASS, law=law)) for law in ran]
        return [
            s.entry.name
            for s in stale_entries(known.entries, results, replays, lambda case: LAWS[case.law].takes(case))
        ]

    assert stale("forward-bound", "strides") == []
    assert replayed == []
    assert stale("strides", "forward-exact") == ["no-groups"]
    assert replayed == ["forward-exact"]


def test_replays_reach_filled_memory():
    """An example is replayed several times, and then once in each process with filled memory."""
    subject, filled = TorchSubject("as it is", conv2d), [TorchSubject(name, conv2d) for name in "ab"]
    law = replace(LAWS["forward-exact"], check=lambda ran, case: Verdict(Status.PASS, case, ran.name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchSubject, "poisoned", lambda self: filled if self is subject else ())
        ran = [verdict.message for verdict in repeated(law, subject, Case.parse(GROUPED))]
    assert ran == ["as it is"] * RUNS + ["a", "b"]


@pytest.mark.parametrize("kind", ["subject", "law", "dtype", "device", "version", "not run", "no cases"])
def test_entry_that_was_not_met_is_not_stale(tmp_path: Path, kind: str):
    """An entry is not judged if its subject, law, dtype, device or version was not part of the run."""
    versions = 'versions = { torch = "<1" }' if kind == "version" else ""
    known = load(f"{ENTRY}{versions}\n", tmp_path)
    verdict = failing(status=Status.NOT_RUN if kind == "not run" else Status.PASS)
    changes = {"dtype": {"dtype": "float64"}, "device": {"device": "cuda"}, "law": {"law": "forward-bound"}}
    ran = result(
        verdict.replace(case=verdict.case.replace(**changes.get(kind, {}))), "x" if kind == "subject" else "mine"
    )
    if kind == "no cases":
        ran.counts.clear()

    def replay(*_: object) -> Verdict:
        raise AssertionError("nothing to replay")

    assert stale_entries(known.entries, [ran], replay) == []


# Files


def test_file_is_whole_or_as_it_was(tmp_path: Path):
    """A failed write leaves the file unchanged and no other file behind; a link stays a link."""
    path, link = tmp_path / "report", tmp_path / "link"
    write_atomically(path, "old")
    link.symlink_to(path)
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "report"]
    write_atomically(link, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "report"]


def test_writable(tmp_path: Path):
    """A path that cannot be written is reported before a run, not after it."""
    assert check_writable(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(ValueError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(ValueError, match="must be in a directory that exists"):
        check_writable(tmp_path / "none" / "new")


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
