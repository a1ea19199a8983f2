"""Conditions of known failures: what they can name, what is refused, and the one derived from a case."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given

from tests.helpers.known_failures import GROUPED
from toeplitz_core.testing.case.attributes import ATTRIBUTES, CALL_ATTRIBUTES
from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import FUNCTIONS, Condition, common, necessary
from toeplitz_core.testing.strategies.calls import calls
from toeplitz_core.testing.strategies.cases import cases

CALL = "call input=int8[1x1x1x1] weight=int8[1x1x1x1]"


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
        ("kernel_size == 3", r"kernel_size has a number for each axis: compare it with (3, 3), or kernel_size[0]"),
        ("groups == 1 and 2 <= stride", "stride has a number for each axis"),
        ("padding == 1", "padding has a pair (before, after) for each axis: compare it with ((1, 1), (1, 1))"),
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


THREE = ("input=1x1x3x3 weight=1x1x3x3", "input=2x1x5x5 weight=1x1x3x3 padding=1", "input=3x3x3 weight=1x3x3x3")


@pytest.mark.parametrize(
    ("cases", "others", "wanted"),
    [
        (THREE, ("input=1x1x3x3 weight=1x1x1x3",), "kernel_size == (3, 3)"),
        (THREE, ("input=1x1x3x3 weight=1x1x1x3", f"{THREE[0]} bias"), "kernel_size == (3, 3) and not bias"),
        (THREE, (f"{THREE[0]} bias", "input=1x1x3x3 weight=1x1x1x3 bias"), "not bias"),
        (THREE, ("input=1x1x3x3 weight=1x1x3x3 seed=5",), None),
        (THREE[:2], ("input=1x1x3x3 weight=1x1x1x3",), None),
        (THREE, (), None),
    ],
)
def test_what_cases_have_in_common(cases: tuple[str, ...], others: tuple[str, ...], wanted: str | None):
    """The condition holds for all cases and for none of the others; few cases have nothing in common."""
    found = common([Case.parse(line) for line in cases], [Case.parse(line) for line in others])
    assert (None if found is None else found.text) == wanted
