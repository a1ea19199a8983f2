"""Cases: their text parses back; errors about malformed lines and impossible values say what is wrong and legal."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.case.layouts import LAYOUTS
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.strategies.geometries import geometries

# The line whose format is promised to users.
PROMISED = (
    "input=2x3x8x8 weight=4x3x3x3 stride=2x1 padding=1 dilation=1 groups=1 bias dtype=float32 layout=channels_last "
    "data=integers seed=7"
)
SMALL = "input=1x2x4x4 weight=2x2x3x3"


def all_cases(rank: int = 2) -> st.SearchStrategy[Case]:
    """Cases with any dtype and recipe; some name a law, a device, or a layout of the result's gradient."""
    return st.builds(
        lambda case, grad, law, device: case.replace(layouts=case.layouts + grad, law=law, device=device),
        cases(geometry=geometries(rank=rank), dtypes=tuple(CASE_DTYPES), recipes=tuple(RECIPES)),
        st.sampled_from([(), (("grad", "contiguous"),), (("grad", "offset"),)]),
        st.sampled_from([None, "forward-exact"]),
        st.sampled_from(["cpu", "cuda", "cuda:1"]),
    )


@given(st.integers(1, 3).flatmap(all_cases))
def test_text_parses_back(case: Case):
    """Both forms of a case's text parse back to an equal case with an equal hash."""
    for text in (str(case), case.text(full=True)):
        parsed = Case.parse(text)
        assert parsed == case
        assert hash(parsed) == hash(case)
        assert parsed.text(full=True) == case.text(full=True)


@given(all_cases())
def test_each_word_of_the_minimal_form_counts(case: Case):
    """No word of the minimal form can be left out: without it the line is malformed or means another case."""
    words = str(case).split()
    for left_out in range(len(words)):
        shorter = " ".join(words[:left_out] + words[left_out + 1 :])
        try:
            other = Case.parse(shorter)
        except ValueError:
            continue
        assert other != case


@given(all_cases(), st.randoms(use_true_random=False))
def test_words_may_come_in_any_order(case: Case, random: Random):
    """The order of the words in a line does not matter."""
    words = case.text(full=True).split()
    random.shuffle(words)
    assert Case.parse("  ".join(words)) == case


def test_promised_line():
    """The promised line parses to the promised case, and prints in its shortest form."""
    case = Case.parse(PROMISED)
    assert case == Case(
        (2, 3, 8, 8),
        (4, 3, 3, 3),
        stride=(2, 1),
        padding=(1, 1),
        bias=True,
        layouts=(("input", "channels_last"), ("weight", "channels_last")),
        seed=7,
    )
    assert str(case) == "input=2x3x8x8 weight=4x3x3x3 stride=2x1 padding=1 bias layout=channels_last seed=7"


def test_defaults_are_left_out():
    """A case with only defaults prints only its two shapes, and the defaults are the documented ones."""
    case = Case.parse(f"{SMALL} stride=1 padding=0 dilation=1x1 groups=1 dtype=float32 device=cpu data=integers seed=0")
    assert str(case) == SMALL
    assert case == Case.parse(SMALL)


def test_full_form_names_everything():
    """The full form names every parameter, including defaults."""
    full = f"{SMALL} stride=1 padding=0 dilation=1 groups=1 dtype=float32 device=cpu data=integers seed=0"
    assert Case.parse(SMALL).text(full=True) == full


def test_input_with_one_axis_fewer_is_unbatched():
    """The weight decides the rank: if the input has one axis fewer, neither input nor output has a batch axis."""
    case = Case.parse("input=2x4x4 weight=6x2x3x3")
    assert case.batch is None
    assert case.output_shape == (6, 2, 2)
    assert Case.parse("input=5x2x4x4 weight=6x2x3x3").output_shape == (5, 6, 2, 2)
    assert Case.parse("input=0x2x4x4 weight=6x2x3x3").batch == 0


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_stays(padding: str):
    """``same`` and ``valid`` stay names: they are not replaced by numbers."""
    case = Case.parse(f"{SMALL} padding={padding}")
    assert case.padding == padding
    assert f"padding={padding}" in str(case)


@pytest.mark.parametrize(
    ("line", "geometry", "output"),
    [
        ("input=2x3x8 weight=4x3x3 stride=2", (1, (8,)), (2, 4, 3)),
        ("input=3x8 weight=4x3x3 padding=1", (1, (8,)), (4, 8)),
        ("input=1x2x4x5x6 weight=3x2x1x2x3 stride=1x2x3 layout=permuted", (3, (4, 5, 6)), (1, 3, 4, 2, 2)),
    ],
)
def test_other_ranks(line: str, geometry: tuple[int, tuple[int, ...]], output: tuple[int, ...]):
    """Lines with one and three axes parse to the right geometry and print unchanged."""
    case = Case.parse(line)
    assert (case.geometry.rank, case.geometry.input_size) == geometry
    assert case.output_shape == output
    assert str(case) == line


def test_layouts_of_operands():
    """``layout=`` applies only to input and weight; ``layout.weight=`` overrides it at any place in the line."""
    assert Case.parse(f"{SMALL} layout=sliced").layouts == (("input", "sliced"), ("weight", "sliced"))
    for line in (f"{SMALL} layout=sliced layout.weight=offset", f"{SMALL} layout.weight=offset layout=sliced"):
        case = Case.parse(line)
        assert (case.layout("input"), case.layout("weight"), case.layout("bias")) == ("sliced", "offset", None)
        assert str(case) == f"{SMALL} layout.input=sliced layout.weight=offset"
    named = Case.parse(f"{SMALL} bias layout.grad=permuted layout.bias=expanded")
    assert (named.layout("grad"), named.layout("bias"), named.layout("input")) == ("permuted", "expanded", None)


# The line, and the parts that its message must have.
MALFORMED = [
    (f"{SMALL} strid=2", ["unknown key 'strid'; did you mean 'stride'? legal: ", "dilation, groups"]),
    (f"{SMALL} qqqq=2", ["word 3 'qqqq=2'", "unknown key 'qqqq'; legal: input, weight, stride"]),
    (f"{SMALL} stride=2 stride=2", ["word 4 'stride=2'", "'stride' is named twice"]),
    (f"{SMALL} bias bias", ["word 4 'bias'", "'bias' is named twice"]),
    (f"{SMALL} stride", ["word 3 'stride'", "'stride' needs a value", "stride=..."]),
    (f"{SMALL} stride=", ["word 3 'stride='", "numbers joined by x"]),
    (f"{SMALL} device=", ["word 3 'device='", "cpu, cuda"]),
    (f"{SMALL} law=", ["word 3 'law='", "must have a value"]),
    (f"{SMALL} bias=1", ["word 3 'bias=1'", "'bias' takes no value"]),
    (f"{SMALL} stride=-1", ["word 3 'stride=-1'", "must be whole numbers joined by x, each >= 1, such as 2x1"]),
    (f"{SMALL} stride=1,2", ["word 3 'stride=1,2'", "numbers joined by x"]),
    (f"{SMALL} stride=1x", ["word 3 'stride=1x'", "numbers joined by x"]),
    (f"{SMALL} stride=2.0", ["word 3 'stride=2.0'", "numbers joined by x"]),
    (f"{SMALL} stride=1_0", ["word 3 'stride=1_0'", "numbers joined by x"]),
    (f"{SMALL} stride=٢", ["word 3 'stride=٢'", "numbers joined by x"]),
    (f"{SMALL} padding=²", ["word 3 'padding=²'", "numbers joined by x, each >= 0", "or same or valid"]),
    (f"{SMALL} padding=full", ["word 3 'padding=full'", "same or valid"]),
    (f"{SMALL} padding=-1", ["word 3 'padding=-1'", "joined by x, each >= 0, such as 2x1, or same or valid"]),
    (f"{SMALL} dilation=-1x1", ["word 3 'dilation=-1x1'", "joined by x, each >= 1, such as 2x1"]),
    (f"{SMALL} groups=1x1", ["word 3 'groups=1x1'", "must be a whole number >= 1"]),
    (f"{SMALL} groups=-1", ["word 3 'groups=-1'", "must be a whole number >= 1"]),
    (f"{SMALL} groups=0", ["word 3 'groups=0'", "must be a whole number >= 1"]),
    (f"{SMALL} seed=-1", ["word 3 'seed=-1'", "must be a whole number >= 0"]),
    (f"{SMALL} seed=1.5", ["word 3 'seed=1.5'", "must be a whole number >= 0"]),
    (f"{SMALL} seed=٣", ["word 3 'seed=٣'", "must be a whole number >= 0"]),
    (f"{SMALL} dtype=float31", ["word 3 'dtype=float31'", "did you mean 'float32'?", ", ".join(CASE_DTYPES)]),
    (f"{SMALL} data=integer", ["word 3 'data=integer'", "did you mean 'integers'?", ", ".join(tuple(RECIPES))]),
    (f"{SMALL} layout=chanels_last", ["word 3 ", "did you mean 'channels_last'?", ", ".join(LAYOUTS)]),
    (f"{SMALL} layout.bias=nhwc", ["word 3 'layout.bias=nhwc'", ", ".join(LAYOUTS)]),
    (f"{SMALL} layout.inputs=offset", ["word 3 ", "did you mean 'layout.input'?"]),
    (f"{SMALL} device=gpu", ["word 3 'device=gpu'", "cpu, cuda, cuda:1"]),
    ("input=1x2x4x4 weight=2x2x3x_3", ["word 2 ", "joined by x, each >= 0, such as 4x3x3x3"]),
    ("weight=2x2x3x3", ["names no input", "input=NxCxHxW"]),
    ("input=1x2x4x4", ["names no weight", "weight=OxCxKxK"]),
    ("", ["names no input"]),
    ("input=1x-2x4x4 weight=2x2x3x3", ["word 1 'input=1x-2x4x4'", "joined by x, each >= 0, such as 2x3x8x8"]),
]


@pytest.mark.parametrize(("line", "said"), MALFORMED, ids=lambda value: value if isinstance(value, str) else "")
def test_malformed_line(line: str, said: list[str]):
    """The error about a malformed line names the word and says what is legal."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is matched below, in parts
        Case.parse(line)
    for part in said:
        assert part in str(caught.value)


# Changes to a valid case, and the parameter, value and rule that the message must name.
IMPOSSIBLE = [
    ({"dtype": "float8"}, ["dtype=float8", "must be one of", "float32"]),
    ({"data": "zeros"}, ["data=zeros", "must be one of", "integers"]),
    ({"seed": -1}, ["seed=-1", "[0, 2**64)"]),
    ({"seed": 2**64}, ["seed=18446744073709551616", "[0, 2**64)"]),
    ({"seed": 0.5}, ["seed=0.5", "[0, 2**64)"]),
    ({"device": "gpu"}, ["device=gpu", "cpu, cuda"]),
    ({"input": (1, 1, 2, 4, 4)}, ["input=1x1x2x4x4", "as many axes as weight=2x2x3x3", "unbatched"]),
    ({"input": (4, 4)}, ["input=4x4", "as many axes as weight=2x2x3x3"]),
    ({"input": (-1, 2, 4, 4)}, ["input=-1x2x4x4", "batch -1", ">= 0"]),
    ({"input": (1, 3, 4, 4)}, ["input=1x3x4x4 has 3 channels", "weight=2x2x3x3", "groups=1", "needs 2"]),
    ({"groups": 2}, ["input=1x2x4x4 has 2 channels", "groups=2", "needs 4"]),
    ({"groups": 0}, ["groups=0", ">= 1"]),
    ({"stride": (1, 0)}, ["stride[1]=0", ">= 1"]),
    ({"stride": (1, 1, 1)}, ["stride=(1, 1, 1)", "2 entries"]),
    ({"dilation": (4, 1)}, ["kernel_size[0]=3", "dilation[0]=4", "padded input, which has 4"]),
    ({"padding": "same", "stride": (2, 1)}, ["padding='same'", "stride=1", "stride=(2, 1)"]),
    ({"padding": "full"}, ["padding='full'", "'same' or 'valid'"]),
    ({"layouts": (("input", "nhwc"),)}, ["layout.input=nhwc", "must be one of", "channels_last"]),
    ({"layouts": (("output", "offset"),)}, ["layout.output", "input, weight, bias, grad"]),
    ({"layouts": (("bias", "channels_last"),)}, ["layout.bias=channels_last", "needs 4 axes", "bias has 1"]),
    ({"input": (2, 4, 4), "layouts": (("input", "channels_last"),)}, ["layout.input=channels_last", "needs 4 axes"]),
    ({"input": (2, 4, 4), "layouts": (("grad", "channel_slice"),)}, ["layout.grad=channel_slice", "grad has 3"]),
    ({"input": (1, 2), "weight": (2, 2)}, ["weight", "at least 3 axes"]),
]


@pytest.mark.parametrize(("changes", "said"), IMPOSSIBLE, ids=str)
def test_impossible_case(changes: dict[str, Any], said: list[str]):
    """An impossible case is refused with an error that names the parameter, its value and the rule."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is matched below, in parts
        Case.parse(SMALL).replace(**changes)
    for part in said:
        assert part in str(caught.value)


def test_impossible_layout_in_a_line():
    """A line is refused if an operand cannot have its layout, even if each word is legal."""
    with pytest.raises(ValueError, match=r"layout\.input=channels_last needs 4 axes, but input has 3"):
        Case.parse("input=2x4x4 weight=2x2x3x3 layout=channels_last")


@given(cases())
def test_case_of_a_geometry(case: Case):
    """``Case.of`` with a case's geometry and other fields gives an equal case."""
    rest = {name: getattr(case, name) for name in ("bias", "layouts", "seed")}
    assert Case.of(case.geometry, case.batch, **rest) == case
