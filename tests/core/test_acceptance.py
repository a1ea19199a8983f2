"""conv2d accepts and refuses the same calls as F.conv2d, except where a defect of torch is listed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

import toeplitz_core
from tests.helpers.paths import KNOWN_TORCH
from toeplitz_core.testing.case.call import NAMES, Acceptance, Call
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.strategies.calls import calls
from toeplitz_core.testing.strategies.invalid_arguments import BREAKS

ERRORS = LAWS["errors"]
KNOWN = KnownFailures.load(KNOWN_TORCH, laws=LAWS)
LISTED = [entry for entry in KNOWN.entries if entry.laws == (ERRORS.name,)]
# Every error of our conv2d names a parameter, or a size that follows from an operand's shape.
_NAMED = re.compile(rf"\b({'|'.join(NAMES)}|kernel_size|in_channels|out_channels)\b")
FEW = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def torchs() -> Iterator[IsolatedSubject]:
    """One torch in a separate process, because some of its defects corrupt memory."""
    with Sandbox() as isolation:
        yield IsolatedSubject(isolation, "torch")


def ours(call: Call) -> Acceptance:
    """The outcome of a call of our conv2d; its errors have the documented types and name a parameter."""
    outcome = call.accepted_by(toeplitz_core.conv2d)
    if outcome.error is not None:
        assert outcome.error in (TypeError, ValueError, MemoryError), f"{call}\n{outcome}"
        # An error about an argument begins with its name; an error about the result names what made it so large.
        named = _NAMED.search(outcome.message) if outcome.error is MemoryError else _NAMED.match(outcome.message)
        assert named, f"{call}\n{outcome}"
    return outcome


def check_parity(torchs: IsolatedSubject, call: Call) -> None:
    """Assert that torch and our conv2d have the same outcome for a call, or that a listed defect explains why not."""
    mine = ours(call)
    verdict = ERRORS(torchs, call)
    entry = KNOWN.match("torch", verdict)
    event(f"torch: {verdict.status if entry is None else entry.name}")
    allowed = (Status.PASS, Status.UNSUPPORTED)
    assert verdict.status in allowed or entry is not None, f"{call}\nours  {mine}\ntorch {verdict.message}"


@given(call=calls())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_call_is_accepted_where_torch_accepts_it(torchs: IsolatedSubject, call: Call):
    """A call has the same outcome in both, or differs exactly as a listed defect of torch says."""
    check_parity(torchs, call)


@pytest.mark.parametrize("name", BREAKS)
def test_each_way_to_break_a_call_has_torchs_outcome(torchs: IsolatedSubject, name: str):
    """Each named way to break a call has the same outcome in both, or differs as a listed defect says."""
    FEW(given(calls(breaks=st.just(name)))(lambda call: check_parity(torchs, call)))()


@pytest.mark.parametrize("empty", ["input: empty batch", "input: no channels"])
@pytest.mark.parametrize("name", [name for name in BREAKS if not name.startswith("input: ")])
def test_each_way_to_break_a_call_with_an_empty_input_has_torchs_outcome(
    torchs: IsolatedSubject, name: str, empty: str
):
    """Each other break has torch's outcome with an empty input too, for which torch returns before all its checks."""
    FEW(given(calls(breaks=st.just(name), together=[empty]))(lambda call: check_parity(torchs, call)))()


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry.name)
def test_a_listed_defect_is_still_there(torchs: IsolatedSubject, entry: Entry):
    """Each listed defect still occurs, and the first entry that matches its example is the entry itself."""
    if not entry.applies:
        pytest.skip(f"listed for {entry.unmet}")
    verdict = ERRORS(torchs, entry.example)
    assert KNOWN.match("torch", verdict) == entry, f"stale: {verdict.status}: {verdict.message}"
    assert isinstance(entry.example, Call)
    ours(entry.example)


def test_the_listed_calls_stand_there_as_they_print():
    """Each entry's example is written in the unique spelling of its call, and no two examples are equal."""
    lines = KNOWN_TORCH.read_text(encoding="utf-8")
    assert LISTED
    assert len({entry.example for entry in LISTED}) == len(LISTED)
    assert all(f"example = {str(entry.example)!r}".replace("'", '"') in lines.replace("'", '"') for entry in LISTED)


def test_a_valid_call_falls_under_no_defect():
    """No condition of the list is true for an ordinary call."""
    call = Call.parse("input=float32[2x3x5x5] weight=float32[4x3x3x3] bias=float32[4] stride=(2,1) padding='valid'")
    assert not [entry.name for entry in LISTED if entry.condition.holds(call)]


@given(calls())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(Call("float32[]@meta", "[1]", "b'a '", "'\\u3000 \\\\ '", "1e999", "(-1,)", "(1, -2.5, True, None, 1j)"))
@example(
    Call("float32[0]", "None", "numpy.array(2)", "[torch.tensor(2), 1]", "torch.Size((2, 2))", "()", "range(1, 3)")
)
def test_a_call_survives_its_text(call: Call):
    """The line of a call parses to an equal call with an equal hash, which prints the same line."""
    line = str(call)
    assert Call.parse(line) == call
    assert hash(Call.parse(line)) == hash(call)
    assert str(Call.parse(line)) == line


def test_values_that_compare_equal_are_different_arguments():
    """1, 1.0 and True are three different arguments; only 1 is the default and left out."""
    texts = [str(Call("float32[1x5x5]", "float32[1x1x3x3]", stride=text)) for text in ("1", "1.0", "True")]
    tensors = "call input=float32[1x5x5] weight=float32[1x1x3x3]"
    assert texts == [tensors, f"{tensors} stride=1.0", f"{tensors} stride=True"]


def test_only_what_is_no_default_is_passed():
    """The positional arguments are the two operands; keyword arguments are those that differ from the defaults."""
    args, kwargs = Call.parse("input=int8[1x5x5] weight=int8[1x1x3x3] stride=(2,1) padding=0").arguments()
    assert [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)] == [(1, 5, 5), (1, 1, 3, 3)]
    assert kwargs == {"stride": (2, 1)}


def test_interrupts_are_not_outcomes():
    """KeyboardInterrupt passes through instead of becoming an outcome."""

    def interrupted(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Call("float32[1x5x5]", "float32[1x1x3x3]").accepted_by(interrupted)


_LITERALS = (
    "or one of numpy.array, numpy.bool, numpy.float64, numpy.int32, numpy.int64, numpy.uint8, range, torch.Size, "
    "torch.tensor of literals: "
)
_OPERAND = f"must be a Python literal without blanks, a tensor such as float32[2x3x5x5] or float32[4]@meta, {_LITERALS}"
_LITERAL = f"must be a Python literal without blanks, {_LITERALS}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "'' must give input and weight"),
        ("input=float32[1]", "'input=float32[1]' must give weight"),
        ("bias", f"'bias' must be name=value, where name is one of {', '.join(NAMES)}"),
        ("strides=1", f"'strides=1': did you mean 'stride'? legal: {', '.join(NAMES)}"),
        ("input=1 weight=1 stride=1 stride=2", "'stride=2': stride is already given as 1"),
        ("input=float33[1] weight=1", f"'input=float33[1]' {_OPERAND}dtype='float33' must be one of float64, "),
        ("input=float32[1]@tpu weight=1", f"'input=float32[1]@tpu' {_OPERAND}device='tpu' must be one of cpu, cuda, "),
        ("input=float32[2x] weight=1", f"'input=float32[2x]' {_OPERAND}invalid decimal literal"),
        (
            "input=1 weight=1 stride=int8[1]",
            f"'stride=int8[1]' {_LITERAL}only input, weight, bias can be given as dtype[shape]",
        ),
        ("input=1 weight=1 stride=(1,", f"'stride=(1,' {_LITERAL}'(' was never closed"),
        ("input=1 weight=1 stride=eval('1')", f"\"stride=eval('1')\" {_LITERAL}eval is not known"),
        ("input=1 weight=1 stride={1}", f"'stride={{1}}' {_LITERAL}{{1}} is not a literal"),
        ("input=1 weight=1 stride=numpy.uint8(300)", f"'stride=numpy.uint8(300)' {_LITERAL}Python integer 300 out of"),
    ],
)
def test_a_malformed_line_is_refused_with_the_word_and_what_is_legal(line: str, message: str):
    """A malformed line raises a ValueError that names the word and lists what is legal."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Call.parse(line)


_X = "input=float32[2x3x5x5]"
_W = "weight=float32[4x3x3x3]"


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (f"{_X} weight=[1]", TypeError, "weight must be a torch.Tensor, not list"),
        (f"input=None {_W}", TypeError, "input must be a torch.Tensor, not NoneType"),
        (f"{_X} {_W} bias=1.0", TypeError, "bias must be a torch.Tensor, not float"),
        (f"input=float32[5x5] {_W}", ValueError, "input has shape (5, 5), but must be 4-D, or 3-D without a batch"),
        (
            f"{_X} weight=float32[4x3x3]",
            ValueError,
            "weight has shape (4, 3, 3), but must be 4-D: (out_channels, in_channels / groups, kH, kW)",
        ),
        (f"{_X} {_W} bias=float32[4x1]", ValueError, "bias has shape (4, 1), but must be (out_channels,) = (4,)"),
        (f"{_X} {_W} bias=float32[3]", ValueError, "bias has shape (3,), but must be (out_channels,) = (4,)"),
        (f"{_X} {_W} stride=(1,0)", ValueError, "stride[1]=0 must be >= 1"),
        (f"{_X} {_W} stride=-1", ValueError, "stride=-1 must be >= 1"),
        (f"{_X} {_W} dilation=0", ValueError, "dilation=0 must be >= 1"),
        (f"{_X} {_W} padding=(-1,0)", ValueError, "padding[0]=-1 must be >= 0"),
        (f"{_X} {_W} groups=0", ValueError, "groups=0 must be >= 1"),
        (f"{_X} weight=float32[4x1x3x3] groups=3", ValueError, "groups=3 must divide out_channels=4"),
        (
            f"{_X} weight=float32[4x1x3x3] groups=2",
            ValueError,
            "input has 3 channels, but weight of shape (4, 1, 3, 3) with groups=2 needs 2",
        ),
        (
            f"{_X} weight=float64[4x3x3x3]",
            TypeError,
            "input has dtype torch.float32, but must have weight's dtype, torch.float64",
        ),
        (
            f"{_X} {_W} bias=float64[4]",
            TypeError,
            "bias has dtype torch.float64, but must have weight's dtype, torch.float32",
        ),
        (f"{_X} {_W}@meta", ValueError, "input is on device cpu, but must be on weight's device, meta"),
        (f"{_X} {_W} bias=float32[4]@meta", ValueError, "bias is on device meta, but must be on weight's device, cpu"),
        (
            f"{_X} weight=float32[4x3x6x3]",
            ValueError,
            ("kernel_size[0]=6 with dilation[0]=1 spans 6 pixels and must not be larger than the "
             "padded input, which has 5"),
        ),
        (f"{_X} {_W} stride=1.0", TypeError, "stride=1.0 must be an int, not float"),
        (f"{_X} {_W} stride=(2,True)", TypeError, "stride[1]=True must be an int, not bool"),
        (f"{_X} {_W} stride=torch.tensor(True)", TypeError, "stride=tensor(True) must be an int, not Tensor"),
        (f"{_X} {_W} groups=None", TypeError, "groups=None must be an int, not NoneType"),
        (f"{_X} {_W} padding=b'same'", TypeError, "padding=b'same' must be an int, not bytes"),
        (f"{_X} {_W} stride=()", ValueError, "stride=() must be an int or have 2 entries, one per axis, not 0"),
        (
            f"{_X} {_W} dilation=(1,1,1)",
            ValueError,
            "dilation=(1, 1, 1) must be an int or have 2 entries, one per axis, not 3",
        ),
        (
            f"{_X} {_W} stride=2 padding='same'",
            ValueError,
            "padding='same' needs stride=1 on every axis, but stride=(2, 2)",
        ),
        (f"{_X} {_W} padding='SAME'", ValueError, "padding='SAME' must be an int, a tuple of ints, 'same' or 'valid'"),
        (
            f"input=float32[2x3x0x5] {_W} padding=2",
            ValueError,
            "input has shape (2, 3, 0, 5), but only the batch and the channels may be empty",
        ),
        (f"{_X} weight=float32[4x3x0x3]", ValueError, "kernel_size[0]=0 must be >= 1"),
        (f"{_X} weight=float32[0x3x3x3]", ValueError, "out_channels=0 must be >= 1"),
        (f"{_X} {_W} stride={2**63}", ValueError, f"stride={2**63} must fit in int64"),
        (
            f"{_X} {_W} padding={2**62}",
            ValueError,
            f"padding[0] makes the padded input {2**63 + 5} pixels long, which must fit in int64",
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_parameter_value_and_rule(line: str, error: type[Exception], message: str):
    """Each invalid call is refused with a message that names the parameter, its value and the rule."""
    outcome = Call.parse(line).accepted_by(toeplitz_core.conv2d)
    assert (outcome.error, outcome.message) == (error, message)


def test_a_result_beyond_memory_is_refused_before_it_is_allocated():
    """A result that cannot fit in memory is refused with its size, before it is allocated."""
    outcome = Call.parse(f"{_X} {_W} padding=({2**47},0)").accepted_by(toeplitz_core.conv2d)
    assert outcome.error is MemoryError
    assert f"({2**48 + 3}, 3) pixels per channel" in outcome.message
    assert f"padding=({2**47}, 0)" in outcome.message
