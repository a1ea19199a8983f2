"""Scripts that show a failure without this package: they fail with the bug, and pass without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.command_line import call
from tests.helpers.scripts import run_scripts
from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.reproducer.exported import exported
from toeplitz_core.testing.findings.reproducer.script import Shown, script
from toeplitz_core.testing.findings.reproducer.targets import NotExportable
from toeplitz_core.testing.findings.shared import torch_failures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import ArraySubject, Subject, resolve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the scripts are run in forked processes")

# What the call of this entry returns depends on what memory held.
_WITH_MEMORY = ("onednn-idle-tap-gradient", "onednn-idle-tap-gradient-autocast")
_LAYOUTS = "layout.input=cropped layout.weight=permuted layout.bias=sliced"


def of_known(entry: Entry) -> str:
    """The script of the example of a known failure of torch."""
    case = next(case for law in entry.laws if LAWS[law].takes(case := entry.example.replace(law=law)))
    shown = Shown(entry.status or Status.FAIL, f"{entry.message};" * bool(entry.message), entry.name in _WITH_MEMORY)
    # A call that hangs costs the whole timeout.
    return script(case, entry.subjects[0], shown).replace("TIMEOUT = 10", "TIMEOUT = 3")


def test_scripts_of_known_failures_of_torch(tmp_path: Path):
    """The script of each known failure that applies to the installed torch fails, and needs only torch and NumPy."""
    entries = [entry for entry in torch_failures().entries if entry.applies]
    texts = {entry.name: of_known(entry) for entry in entries}
    assert not [name for name, text in texts.items() if "toeplitz_core" in text]
    found = run_scripts(texts, tmp_path)
    assert {name: code for name, (code, _) in found.items()} == dict.fromkeys(texts, 1), found


def flip(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, *rest: Any) -> np.ndarray:
    """Flips the kernel; a function on arrays."""
    given = (None if array is None else torch.from_numpy(array) for array in (x, weight[..., ::-1].copy(), bias))
    return torch.nn.functional.conv2d(*given, *rest).numpy()


flipped = ArraySubject("flipped", flip)

WRONG = {
    "forward": ("tests.faults.indexing:misses_last_column", "input=1x1x1x9 weight=1x1x1x1 law=forward-exact"),
    "large": (
        "tests.faults.indexing:flips_kernel",
        "input=2x8x20x20 weight=8x4x3x3 padding=1 groups=2 bias law=forward-exact",
    ),
    "large-bound": (
        "tests.faults.indexing:swaps_strides",
        "input=2x8x20x20 weight=8x8x3x3 stride=2x1 data=normal law=forward-bound",
    ),
    "relation": ("tests.faults.indexing:ignores_dilation", "input=1x1x5x5 weight=1x1x2x2 dilation=2 law=dilation"),
    "strides": (
        "tests.faults.memory:ignores_strides_of_weight",
        f"input=1x2x5x5 weight=3x2x3x3 bias {_LAYOUTS} law=strides",
    ),
    "gradient": (
        "tests.faults.gradients:leaves_out_last_row_of_input_gradient",
        "input=1x2x5x5 weight=3x2x3x3 law=gradients-exact",
    ),
    "gradient-alone": (
        "tests.faults.gradients:doubles_weight_gradient_alone",
        "input=1x2x5x5 weight=3x2x3x3 data=normal law=gradients-bound",
    ),
    "large-gradient": (
        "tests.faults.gradients:rounds_gradients_to_bfloat16",
        "input=2x8x12x12 weight=16x8x3x3 bias data=normal law=gradients-bound",
    ),
    "double-backward": (
        "tests.faults.gradients:forgets_how_gradients_depend",
        "input=1x2x5x5 weight=3x2x3x3 law=double-backward",
    ),
    "double-backward-alone": (
        "tests.faults.training:doubles_second_derivatives_of_the_weight_alone",
        "input=1x2x5x5 weight=3x2x3x3 law=double-backward",
    ),
    "forward-mode": (
        "tests.faults.training:doubles_what_it_carries_forward",
        "input=1x2x5x5 weight=3x2x3x3 bias law=forward-mode",
    ),
    "functional-gradients": (
        "tests.faults.gradients:is_constant_in_weight_within_torch_func",
        "input=1x2x5x5 weight=3x2x3x3 bias law=functional-gradients",
    ),
    "writes-input": ("tests.faults.memory:writes_its_input", "input=1x2x5x5 weight=3x2x3x3 law=contract"),
    "buffer": ("tests.faults.contracts:returns_a_reused_buffer", "input=1x2x5x5 weight=3x2x3x3 bias law=contract"),
    "arrays": ("tests.findings.test_reproducer:flipped", "input=1x1x3x3 weight=1x1x2x2 law=forward-exact"),
    "nan": (
        "tests.faults.memory:pads_with_nan_below",
        "input=1x1x3x3 weight=1x1x2x2 padding=1 data=nonfinite law=special-values",
    ),
}


@pytest.mark.usefixtures("own_journals")
def test_scripts_of_wrong_convolutions(tmp_path: Path):
    """The script of a wrong convolution fails, also if another law has found the wrong call."""
    texts = {}
    for name, (subject, line) in WRONG.items():
        found = exported(Case.parse(line), resolve(subject), run=lambda _: 1)
        assert found.failed, name
        texts[name] = found.text
    found_codes = run_scripts(texts, tmp_path)
    assert {name: code for name, (code, _) in found_codes.items()} == dict.fromkeys(texts, 1), found_codes


RIGHT = [
    "input=2x4x7x6 weight=6x2x3x2 stride=2x1 padding=1 dilation=1x2 groups=2 bias law=forward-exact",
    "input=2x8x20x20 weight=8x4x3x3 padding=same groups=2 bias law=forward-exact",
    "input=2x8x20x20 weight=8x8x3x3 stride=2x1 bias data=normal law=forward-bound",
    "input=3x7x6 weight=2x3x3x2 padding=valid dtype=float64 data=normal law=forward-bound",
    "input=2x8x20x20 weight=8x8x3x3 stride=2x1 bias dtype=float64 data=wide law=forward-bound",
    "input=1x2x6x5 weight=2x2x2x2 dtype=complex64 bias law=forward-exact",
    "input=4x8x20x20 weight=8x8x3x3 dtype=complex64 bias data=normal law=forward-bound",
    "input=4x8x10x10 weight=8x8x3x3 dtype=int64 bias law=forward-exact",
    "input=1x2x6x5 weight=2x2x2x2 dtype=bfloat16 bias data=accumulator law=forward-exact",
    "input=1x2x6x5 weight=2x2x2x2 dtype=float16 bias data=subnormal law=forward-bound",
    "input=2x2x6x5 weight=2x2x2x2 padding=1 data=nonfinite bias law=special-values",
    "input=2x4x7x6 weight=6x2x3x2 stride=2x1 padding=1 groups=2 bias law=gradients-exact layout.grad=repeated",
    "input=4x8x12x12 weight=16x4x3x3 stride=2x1 padding=1 groups=2 bias law=gradients-exact",
    "input=4x8x12x12 weight=16x4x3x3 stride=2x1 padding=1 groups=2 bias data=normal law=gradients-bound",
    "input=1x2x6x5 weight=2x2x2x2 dtype=complex64 bias law=gradients-exact",
    "input=2x2x6x5 weight=2x2x2x2 bias law=contract",
    "input=2x2x6x5 weight=2x2x2x2 bias law=vmap",
    "input=2x2x6x5 weight=2x2x2x2 padding=1 bias law=adjoint",
    *(
        f"input=2x4x6x5 weight=2x2x3x2 padding=same groups=2 bias dtype={dtype} law={law}"
        for law in ("double-backward", "forward-mode", "functional-gradients")
        for dtype in ("float32", "complex64")
    ),
    "input=2x5x5 weight=2x2x2x2 stride=2 law=functional-gradients layout.weight=channels_last",
    "input=2x2x6x5 weight=2x2x2x2 bias law=stale-memory",
    *(
        f"input=2x4x7x6 weight=6x2x3x2 groups=2 bias law=forward-exact layout.input={layout} layout.weight={layout}"
        for layout in (
            "channels_last",
            "transposed",
            "permuted",
            "offset",
            "sliced",
            "cropped",
            "channel_slice",
            "expanded",
        )
    ),
    "input=2x4x1x6 weight=6x2x1x2 groups=2 bias law=forward-exact dtype=int64 layout=odd_strides layout.bias=sliced",
    "call input=float32[2x3x5x5] weight=float32[4x3x3x3] bias=float32[4] stride=(2,1) padding='valid'",
    "call input=float32[2x3x5x5] weight=float32[4x2x3x3]",
    "call input=int8[2x3x5x5]@meta weight=int8[4x3x3x3]@meta stride=torch.tensor(2) padding=numpy.int64(1)",
]


def test_scripts_of_right_convolutions(tmp_path: Path):
    """The script of a case that holds ends with 0: operands, layouts, expected values and bounds are right."""
    texts = {f"right{n}": script(parse_line(line), "torch-native") for n, line in enumerate(RIGHT)}
    guarded = "reads memory behind its input and its weight while it computes gradients;"
    case = Case.parse("input=2x2x6x5 weight=2x2x2x2 law=in-bounds layout.input=channels_last")
    texts["guarded"] = script(case, "torch-native", Shown(message=guarded))
    texts["apart"] = script(parse_line(RIGHT[0]), "torch-native", Shown(Status.CRASH))
    found = run_scripts(texts, tmp_path)
    assert {name: code for name, (code, _) in found.items()} == dict.fromkeys(texts, 0), found


LIBRARIES = {"jax": "bfloat16", "jax-nhwc": "float32", "onnxruntime": "float16", "onnxruntime-dynamic": "float32"}


def test_scripts_of_libraries_call_them_alone(tmp_path: Path):
    """The script of a registered library has no need of this package, and shows a right convolution."""
    texts = {}
    line = "input=2x4x7x6 weight=6x2x3x2 stride=2x1 padding=1x0 dilation=1x2 groups=2 bias law=forward-exact"
    for name, dtype in LIBRARIES.items():
        pytest.importorskip(name.partition("-")[0])
        texts[f"of-{name}"] = script(Case.parse(line).replace(dtype=dtype), name)
    texts["same"] = script(Case.parse("input=4x7x6 weight=6x4x2x3 padding=same law=forward-exact"), "jax")
    texts["wrong"] = texts["same"].replace("(total // 2, total - total // 2)", "(total - total // 2, total // 2)")
    assert not any("toeplitz_core" in text for text in texts.values())
    found = run_scripts(texts, tmp_path)
    assert {name: code for name, (code, _) in found.items()} == dict.fromkeys(texts, 0) | {"wrong": 1}, found


@pytest.mark.parametrize(
    ("codes", "shown", "memory"), [((1,), True, False), ((0, 1), True, True), ((0, 0), False, False)]
)
def test_a_script_is_run_before_it_is_given_away(codes: tuple[int, ...], shown: bool, memory: bool):
    """A script that does not fail is written again to fill memory; if that fails no more, the first is kept."""
    case, left = Case.parse("input=1x1x1x9 weight=1x1x1x1 law=forward-exact"), list(codes)
    found = exported(case, resolve("tests.faults.indexing:misses_last_column"), run=lambda _: left.pop(0))
    assert (found.failed, found.shown, "fill_memory" in found.text, left) == (True, shown, memory, [])


@pytest.mark.parametrize("name", ["segfault", "hang"])
def test_a_crash_and_a_hang_are_shown_in_another_process(name: str, tmp_path: Path):
    """The script of a call that ends its process, or never returns, ends with 1 and says so."""
    status = Status.CRASH if name == "segfault" else Status.TIMEOUT
    case = Case.parse("input=1x2x3x3 weight=2x1x1x2 padding=2 dilation=2 groups=2 law=forward-exact")
    text = script(case, f"tests.faults.process:{name}", Shown(status)).replace("TIMEOUT = 10", "TIMEOUT = 2")
    code, output = run_scripts({name: text}, tmp_path)[name]
    assert code == 1
    assert ("signal 11" if name == "segfault" else "does not return within 2 s") in output


def test_a_script_that_cannot_run_ends_with_2(tmp_path: Path):
    """Without the module under test, the script says what is missing and ends with 2."""
    text = script(Case.parse("input=1x1x1x1 weight=1x1x1x1 law=forward-exact"), "tests.faults.correct:in_a_tree")
    code, output = run_scripts({"moved": text.replace("tests.faults.correct", "no_such_module")}, tmp_path)["moved"]
    assert (code, output) == (2, "cannot run: No module named 'no_such_module'\n")


class Own(Subject):
    """A subject that is no function."""

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:  # noqa: ARG002  # as every subject
        """Return nothing of use."""
        return torch.zeros(case.output_shape)


@pytest.mark.parametrize(
    ("line", "subject", "why"),
    [
        ("input=1x1x1x1 weight=1x1x1x1 law=forward-exact", "naive", "is code of the suite"),
        ("input=1x1x1x1 weight=1x1x1x1 law=forward-exact", "tests.findings.test_reproducer:Own", "class of the suite"),
        ("input=1x1x1 weight=1x1x1 law=forward-exact", "torch", "only cases with 2 axes"),
        ("input=1x1x1x1 weight=1x1x1x1 law=composition", "torch", "compares several calls"),
        ("input=1x1x1 weight=1x1x1x1 law=vmap", "torch", "only batches"),
        ("input=1x9x3x3 weight=1x9x3x3 data=overflow law=forward-bound", "torch", "may overflow"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_reason(line: str, subject: str, why: str):
    """A failure that no script can show is refused, and the message says why."""
    with pytest.raises(NotExportable, match=why):
        script(Case.parse(line), subject)


def test_a_call_of_another_law_is_not_a_case():
    """A call has no law but ``errors``, whose script is made from the call."""
    assert "def invoke" in script(Call.parse("input=float32[1x1x1x1] weight=float32[1x1x1x1]"), "torch")


def test_the_script_of_a_large_call_compares_its_numbers(tmp_path: Path):
    """All numbers of a result that is too large to be written out as a list."""
    text = script(Call.parse("input=float32[1x2x30x30] weight=float32[2x2x3x3] padding=1"), "torch")
    wrong = text.replace("return conv2d(", "return 1 + conv2d(")
    assert wrong != text
    found = run_scripts({"right": text, "wrong": wrong}, tmp_path)
    assert (found["right"][0], found["wrong"][0]) == (0, 1)
    assert "expected" in found["wrong"][1]


@pytest.mark.usefixtures("own_journals")
def test_export_writes_a_script(tmp_path: Path):
    """The command prints the script or writes it to a file, and says on standard error if the case holds."""
    line = '"input=1x1x1x9 weight=1x1x1x1 law=forward-exact"'
    file = tmp_path / "shown.py"
    written = call(f"export {line} --subject tests.faults.indexing:misses_last_column -o {file}")
    assert (written.exit_code, written.output) == (0, "")
    assert run_scripts({"run": file.read_text()}, tmp_path)["run"][0] == 1
    printed = call(f"export {line} --subject torch --inline")
    assert printed.exit_code == 0
    assert printed.stdout.startswith('"""torch: ')
    assert printed.stderr == "The case holds here, so the script exits with 0.\n"
    refused = call(f"export {line} --subject naive")
    assert refused.exit_code == 2
    assert "is code of the suite" in refused.output
