"""``show`` is right, fits a terminal, and is plain text."""

from __future__ import annotations

import itertools
import platform
import re
import shlex
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from toeplitz_core.matrix import toeplitz_matrix
from toeplitz_core.testing import cli
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.gradient_operands import draw_with_gradient
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.reports.cases.show import show_case
from toeplitz_core.testing.reports.cases.shown_numbers import WIDTH
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.pytorch.variants import torch_subject

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


GRADIENT = "input=1x1x2x3 weight=2x1x1x2 bias seed=3"


def wrong_at_the_end(x: torch.Tensor, *rest: Any) -> torch.Tensor:
    """A convolution whose last element is wrong by one."""
    y = torch.nn.functional.conv2d(x, *rest)
    last = torch.zeros_like(y)
    last.view(-1)[-1:] = 1
    return y + last


def numbers_under(heading: str, shown: str) -> list[float]:
    """The numbers of the rows under a heading."""
    rows = itertools.takewhile(lambda line: line.startswith(" "), shown.partition(f"{heading}\n")[2].splitlines())
    return [float(word.rstrip("*")) for row in rows for word in row.partition("]")[2].split() or row.split()]


@pytest.mark.parametrize("line", [f"{GRADIENT} law=gradients-exact", f"{GRADIENT} layout.grad=sliced"])
def test_gradients_are_shown(line: str):
    """A gradient case shows the gradient of its result and the exact gradients, as its law draws and expects them."""
    case = Case.parse(line)
    shown = show_case(case)
    operands = draw_with_gradient(case)
    leaves = [t.double().requires_grad_() for t in (operands.input, operands.weight, operands.bias)]
    torch.nn.functional.conv2d(*leaves).backward(operands.gradient.double())
    assert numbers_under("gradient of the result", shown) == operands.gradient.flatten().tolist()
    for name, leaf in zip(("input", "weight", "bias"), leaves, strict=True):
        assert numbers_under(f"expected {name} gradient", shown) == leaf.grad.flatten().tolist()


@pytest.mark.parametrize("law", [law.name for law in LAWS.values() if law.procedure != "argument_checks"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_a_right_subject_is_as_expected(law: str, dtype: str):
    """For each law, each result of a right subject is as expected, and all lines fit a terminal."""
    for data in LAWS[law].recipes:
        case = Case.parse(f"{GRADIENT} dtype={dtype} data={data} law={law}")
        if LAWS[law].takes(case):
            first, *lines = show_case(case, torch_subject("torch")).splitlines()
            assert first == f"case      {case}"
            assert max(map(len, lines)) <= WIDTH
            assert any("as expected" in line for line in lines)
            assert not any("*" in line or "differ" in line for line in lines if not line.startswith("law"))


def test_the_elements_that_differ_are_marked():
    """A wrong element of a subject's result has a star; the others have none."""
    shown = show_case(Case.parse(f"{GRADIENT} law=forward-exact"), TorchSubject("own", wrong_at_the_end))
    expected, actual = shown.partition("\nexpected")[2].split("\nactual ")[0:2]
    assert actual.partition("\nbound")[0].count("*") == 1
    assert actual.splitlines()[3].endswith("*")
    assert "          1 of 8 differ" in shown
    assert int(actual.splitlines()[3].split()[-1].rstrip("*")) == int(expected.splitlines()[3].split()[-1]) + 1


def test_elements_of_large_results_that_differ_are_listed():
    """Of a large result, the elements that differ are listed with what they should be."""
    case = Case.parse("input=1x1x9x9 weight=1x1x1x1 law=forward-exact")
    shown = show_case(case, TorchSubject("own", wrong_at_the_end))
    assert re.search(r"1 of 81 differ: \[0, 0, 8, 8\]=(-?\d+), not (-?\d+)", shown)


def test_special_values_are_shown():
    """For special values, the expected numbers are those of torch, NaN and infinities included."""
    for seed in range(20):
        case = Case.parse(f"input=1x1x3x4 weight=2x1x2x2 data=nonfinite law=special-values seed={seed}")
        operands = draw(case)
        wanted = torch.nn.functional.conv2d(operands.input, operands.weight)
        rows = show_case(case).partition("\nexpected  ")[2].partition("\nbound")[0].splitlines()
        found = [float(word) for row in rows if "]" in row for word in row.partition("]")[2].split()]
        assert torch.equal(torch.tensor(found).nan_to_num(nan=7), wanted.flatten().nan_to_num(nan=7))


def test_why_a_subject_has_no_result():
    """An exception or a refusal of a subject is shown in place of its result; so is the answer to a call."""

    def refuses(*_: Any) -> torch.Tensor:
        raise NotImplementedError("some day")

    subject = TorchSubject("own", refuses, checks_arguments=True)
    assert "\nactual    own NotImplementedError: some day\n" in show_case(Case.parse(GRADIENT), subject)
    call = Call.parse("call input=float32[1x1x5x5] weight=float32[1x1x3x3]")
    assert "actual    own unimplemented: NotImplementedError: some day" in show_case(call, subject)


def test_a_subject_is_named():
    """``--subject`` shows a subject of the command line; a wrong name is a usage error."""
    result = call(f"show '{ROW} law=forward-exact' --subject numpy")
    assert result.exit_code == 0
    assert "          as expected\n" in result.output
    assert call(f"show '{ROW}' --subject torc").exit_code == 2


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


def of_old_memory(x: torch.Tensor, *rest: Any) -> torch.Tensor:
    """A convolution whose last column is what its memory held before."""
    y = torch.nn.functional.conv2d(x, *rest)
    result = torch.empty_like(y)
    result[..., :-1] = y[..., :-1]
    return result


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is filled by glibc")
def test_old_memory_contents_have_no_numbers():
    """Of elements that change with what memory held before, show prints a question mark and their indices."""
    line = f"show 'input=1x1x2x4 weight=1x1x1x2 law=stale-memory' --subject {__name__}:of_old_memory"
    shown = call(line).output.partition("\nactual ")[2].splitlines()
    assert [row.split()[-1] for row in shown[:2]] == ["?", "?"]
    assert [len(row.split("]")[1].split()) for row in shown[:2]] == [3, 3]
    changing = "2 of 6 change with what new memory held before: [0, 0, 0, 2], [0, 0, 1, 2]"
    assert " ".join(" ".join(shown[2:4]).split()).startswith(changing)
    assert [row for row in shown if len(row) > WIDTH] == []


def test_results_that_change_between_runs_have_no_numbers():
    """Of elements that change between runs, show prints a question mark and the first indices."""
    counter = itertools.count()
    subject = TorchSubject("own", lambda *args: torch.nn.functional.conv2d(*args) + next(counter))
    shown = show_case(Case.parse("input=1x1x3x3 weight=1x1x1x1"), subject).partition("\nactual ")[2]
    assert shown.partition("\n          9 of 9")[0].count("?") == 9
    assert "\n          9 of 9 change between runs: [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 2]," in shown
    assert "[0, 0, 1, 1], ...\n" in shown


@pytest.mark.parametrize("value", [float("nan"), 1.0])
def test_right_results_do_not_change(value: float):
    """Results that are the same each time are printed, NaN too."""
    subject = TorchSubject("own", lambda *args: torch.full_like(torch.nn.functional.conv2d(*args), value))
    shown = show_case(Case.parse("input=1x1x1x3 weight=1x1x1x1"), subject).partition("\nactual ")[2]
    assert "3 of 3 differ" in shown
