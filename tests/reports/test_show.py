"""``show`` is right, fits a terminal, and is plain text."""

from __future__ import annotations

import shlex

import pytest
import torch
from typer.testing import CliRunner, Result

from toeplitz_core.matrix import toeplitz_matrix
from toeplitz_core.testing import cli
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.reports.show import WIDTH, show_case

ROW = "input=1x1x1x4 weight=1x1x1x2 padding=0x1"


def call(line: str) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(cli.app, shlex.split(line), prog_name="toeplitz-core")


def test_geometry_data_and_result_are_said():
    """Sizes, recipe, numbers and expected result are on separate lines."""
    result = call(f"show '{ROW} bias law=forward-exact seed=3'")
    assert result.exit_code == 0
    case = Case.parse(f"{ROW} bias seed=3")
    for said in (
        f"case      {ROW} bias seed=3 law=forward-exact\n",
        "output    1x1x1x5 for an input of 1x1x1x4\n",
        "T         5 x 4, 8 nonzeros (density 0.4); 80 bytes dense, 88 as CSR\n",
        "data      integers, seed 3: signed integers",
        "law       forward-exact: ",
        "bound     none: compared with ==",
    ):
        assert said in result.output, said
    operands = draw(case)
    wanted = torch.nn.functional.conv2d(operands.input, operands.weight, operands.bias, padding=(0, 1))
    (line,) = [line for line in result.output.splitlines() if line.startswith("expected")]
    assert [int(word) for word in line.split()[4:]] == wanted.flatten().long().tolist()


@pytest.mark.parametrize(
    "text",
    [
        ROW,
        "input=1x2x3x3 weight=2x1x2x2 groups=2 padding=1",
        "input=1x2x2x3 weight=1x2x2x2 stride=2 padding=1 dilation=1",
        "input=1x1x9 weight=1x1x3 padding=1",
    ],
)
def test_picture_is_the_pattern_of_the_matrix(text: str):
    """The picture has the character of the tap for each entry of T, and dots elsewhere."""
    case = Case.parse(text)
    g = case.geometry
    lines = show_case(case).partition("T, with the tap")[2].splitlines()[1:]
    drawn = [line.replace(" ", "") for line in lines if line]
    taps = torch.arange(1.0, 1 + g.kernel_size[0] * (g.kernel_size[1] if g.rank > 1 else 1)).reshape(g.kernel_size)
    matrix = toeplitz_matrix(
        taps.expand(g.weight_shape).contiguous(), g.input_size, g.stride, g.padding, g.dilation, g.groups
    )
    assert drawn == ["".join(".abcdefghi"[int(tap)] for tap in row) for row in matrix]


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (data, dtype)
        for data, recipe in RECIPES.items()
        for dtype in CASE_DTYPES
        if recipe.kind != "real" or dtype != "int64"  # int64 has no such recipes
    ],
)
def test_every_recipe_fits_a_terminal(data: str, dtype: str):
    """Only the line of the case may be wider than a terminal, and there are no control characters."""
    for shapes in ("input=2x3x5x4 weight=6x1x2x3 groups=3 padding=1 bias", "input=1x0x2x2 weight=1x0x1x1 bias"):
        case = Case.parse(f"{shapes} dtype={dtype} data={data} seed=5")
        first, *lines = show_case(case).splitlines()
        assert first == f"case      {case}"
        assert max(map(len, lines)) <= WIDTH
        assert all(line.isprintable() for line in lines)


def test_large_cases_are_summarised():
    """A large case is summarised by its sizes and the range of its numbers; its result is not computed."""
    shown = show_case(Case.parse("input=1x64x56x56 weight=64x64x3x3 padding=1 data=normal"))
    assert "T         200,704 x 200,704, 112,869,376 nonzeros" in shown
    assert "input     200,704 numbers, 200,704 not zero, from -" in shown
    assert "expected  not computed" in shown
    assert "picture   none: only matrices" in shown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"show '{ROW} strid=2'", "word 4 'strid=2'"),
        (f"show '{ROW} law=forward'", "law=forward is unknown; did you mean"),
        ("show 'input=1x1x1x1'", "names no weight"),
    ],
)
def test_wrong_case(line: str, said: str):
    """A wrong case is a usage error that names the word."""
    result = call(line)
    assert result.exit_code == 2
    assert said in result.stderr
