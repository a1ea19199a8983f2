"""Failures that a subject shares with torch, whose convolution it calls."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.findings import torch_kernels
from tests.helpers.command_line import call
from toeplitz_core import conv2d
from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing import check
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.findings.shared import SharedFailures, in_words
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import UNLISTED, Excuse, Status, Verdict
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.pytorch.counterpart import ConvolutionWatch, torch_instead_of
from toeplitz_core.testing.subjects.symptom import Symptom

KERNELS = torch_kernels.__name__
NO_CHANNELS = "input=1x0x1x1 weight=1x0x1x1 bias law=no-channels"
LISTED = Excuse(Status.SHARED, "no-input-channels-lose-the-result")
# torch ends the process; see the list of its known failures.
CRASH = "input=2x2x3x1 weight=1x2x3x1 stride=1x2 padding=0x1 dilation=1x2 bias layout=channels_last law=forward-exact"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox for workers."""
    with Sandbox() as found:
        yield found


def excuse(sandbox: Sandbox, name: str, line: str) -> Excuse | None:
    """Why the failure of a subject on a case is excused. It must fail."""
    subject = IsolatedSubject(sandbox, name)
    case = Case.parse(line)
    verdict = LAWS[str(case.law)](subject, case)
    assert verdict.status.is_failure, verdict
    return SharedFailures(subject)(verdict)


@pytest.mark.parametrize("name", ["wrapper", "declared"])
def test_a_failure_of_torch_is_shared_with_its_callers(sandbox: Sandbox, name: str):
    """It is shared if the subject is seen to call torch's convolution, or declares it, and has torch's name for it."""
    assert excuse(sandbox, f"{KERNELS}:{name}", NO_CHANNELS) == LISTED


@pytest.mark.parametrize(
    "name",
    [
        "torch",
        "torch-native",
        "torch.nn.functional:conv2d",
        f"{KERNELS}:calls_nothing",
        f"{KERNELS}:denied",
        f"{KERNELS}:calls_for_nothing",
    ],
)
def test_no_other_subject_is_excused(sandbox: Sandbox, name: str):
    """Torch itself is not excused, nor a subject that fails in the same way without torch's convolution."""
    assert excuse(sandbox, name, NO_CHANNELS) is None


# torch returns no output channels for it, and adding a bias of 2 channels raises.
TWO_OUTPUT_CHANNELS = "input=1x0x1x1 weight=2x0x1x1 bias law=no-channels"


def test_a_wrong_result_of_torch_may_fail_its_caller_differently(sandbox: Sandbox):
    """A failure is torch's if the subject is right once torch's convolution is; a fault of its own is not."""
    assert excuse(sandbox, f"{KERNELS}:adds_the_bias", TWO_OUTPUT_CHANNELS) == LISTED
    for name in ("adds_it_only_sometimes", "adds_it_and_refuses", "raises_as_if_it_added"):
        assert excuse(sandbox, f"{KERNELS}:{name}", TWO_OUTPUT_CHANNELS) is None, name


def test_a_crash_is_shared_but_not_with_an_exception(sandbox: Sandbox):
    """Where torch crashes, a subject that crashes too is excused, and one that raises is not."""
    if not LAWS["forward-exact"](IsolatedSubject(sandbox, "torch"), Case.parse(CRASH)).status.is_failure:
        pytest.skip("not run: torch does not crash on this processor")
    assert excuse(sandbox, f"{KERNELS}:wrapper", CRASH) == Excuse(Status.SHARED, "onednn-segfault-padding-only")
    assert excuse(sandbox, f"{KERNELS}:raises_where_torch_crashes", CRASH) is None


@pytest.mark.parametrize("law", ["law=forward-exact", "law=forward-bound data=normal"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_crash_in_the_dtype_of_the_call_is_shared(sandbox: Sandbox, dtype: str, law: str):
    """Torch is called in the dtype in which the subject calls it, where torch crashes in that dtype only."""
    if not LAWS["forward-exact"](IsolatedSubject(sandbox, "torch"), Case.parse(CRASH)).status.is_failure:
        pytest.skip("not run: torch does not crash on this processor")
    line = CRASH.replace("law=forward-exact", f"dtype={dtype} {law}")
    assert excuse(sandbox, f"{KERNELS}:in_float32", line) == Excuse(Status.SHARED, "onednn-segfault-padding-only")
    assert excuse(sandbox, f"{KERNELS}:crashes_beside_it", line) is None


def test_numbers_that_another_dtype_rounds_are_the_subjects_own(sandbox: Sandbox):
    """A subject that computes in float32 is not excused for numbers that float64 would have."""
    line = "input=1x1x2x2 weight=1x1x2x2 dtype=float64 data=normal law=forward-bound"
    assert excuse(sandbox, f"{KERNELS}:in_float32", line) is None


def test_a_narrow_format_inside_is_one_finding():
    """Neither what torch fails in the narrow format nor the rounding next to NaN is a finding of its own."""
    laws = ("forward-exact", "special-values", "contract")
    record = check(f"{KERNELS}:in_float32", law=laws, dtype=("float64", "complex128"), device="cpu", quiet=True)
    (finding,) = record.findings
    assert (finding.cause, record.results[-1].failure is None) == ("narrow-accumulator", False)


def test_torch_is_called_and_judged_as_the_subject_is():
    """Torch in a subject's place has its layout, its context, its arithmetic and its claims."""
    contexts: list[None] = []
    arithmetic = Arithmetic.of_dtype(torch.bfloat16)

    def context() -> contextlib.AbstractContextManager[None]:
        contexts.append(None)
        return contextlib.nullcontext()

    subject = TorchSubject(
        "mine",
        conv2d,
        layout="channels_last",
        context=context,
        arithmetic=lambda _: arithmetic,
        dtypes=("float32",),
        differentiable=False,
    )
    instead = torch_instead_of(subject)
    outcome = instead.run(CASE, draw(CASE))
    assert (instead.layout, instead.claims, outcome.arithmetic) == ("channels_last", subject.claims, arithmetic)
    assert contexts
    assert instead.function is functional.conv2d


def test_a_result_that_depends_on_memory_is_shared(sandbox: Sandbox):
    """If torch passes by chance, it is run again with filled memory."""

    def check_by_chance(subject: Any, case: Case) -> Verdict:
        subject.run(case, draw(case))
        chance = subject._role == "torch" and subject._poison is None
        return Verdict(Status.PASS if chance else Status.FAIL, case, "returned 7 results")

    law = replace(LAWS["forward-exact"], name="by-chance", check=check_by_chance)
    case = Case.parse("input=1x1x1x1 weight=1x1x1x1")
    found = {}
    for name in ("wrapper", "calls_nothing"):
        subject = IsolatedSubject(sandbox, f"{KERNELS}:{name}")
        found[name] = SharedFailures(subject, {"by-chance": law})(law(subject, case))
    assert found == {"wrapper": Excuse(Status.SHARED, f"{UNLISTED}: by-chance float32"), "calls_nothing": None}


def test_nothing_runs_again_where_nothing_fails(sandbox: Sandbox):
    """No worker for a comparison starts before a failure."""
    subject = IsolatedSubject(sandbox, f"{KERNELS}:wrapper")
    SharedFailures(subject)
    assert LAWS["forward-exact"](subject, Case.parse("input=1x1x1x1 weight=1x1x1x1")).status is Status.PASS
    assert all(beside._worker is None for beside in subject._beside.values())


@pytest.mark.parametrize("inline", [False, True])
def test_a_wrapper_that_adds_the_bias_is_green(inline: bool):
    """A correct wrapper that calls torch without the bias does not fail the law that torch breaks."""
    record = check(f"{KERNELS}:adds_the_bias", inline=inline, **OPTIONS)
    assert (record.exit_code, record.results[0].status) == (0, Status.SHARED)


OPTIONS: dict[str, Any] = {"dtype": "float32", "device": "cpu", "law": ["no-channels", "stride"], "quiet": True}


@pytest.mark.parametrize(("inline", "strict"), [(False, False), (True, False), (True, True)])
def test_shared_failures_do_not_fail_a_run(inline: bool, strict: bool):
    """A law whose failures are all shared does not fail, unless the run is strict; the run names the failures."""
    record = check(f"{KERNELS}:wrapper", inline=inline, strict=strict, fail_fast=True, **OPTIONS)
    no_channels, *rest = record.results
    if strict:
        assert (record.exit_code, no_channels.status, no_channels.shared, rest) == (1, Status.FAIL, {}, [])
        return
    assert (record.exit_code, no_channels.status, len(rest)) == (0, Status.SHARED, 1)
    assert record.shared == {LISTED.name: no_channels.counts[Status.SHARED]} == {LISTED.name: no_channels.cases}


def test_the_search_goes_on_past_shared_failures():
    """A fault of the subject's own is found and shrunk among failures of torch, and not into one of them."""
    record = check(f"{KERNELS}:refuses_strides", inline=True, **OPTIONS)
    found = record.results[0]
    assert found.failure is not None
    assert (record.exit_code, found.status, found.failure.message) == (1, Status.FAIL, "raised ValueError: stride")
    assert max(found.failure.case.stride) == 2


def test_replay_says_that_torch_fails():
    """``replay`` of a shared failure ends with 0 and names it; ``--strict`` ends with 1."""
    replay = f'replay "{NO_CHANNELS}" --runs 1 --inline --subject {KERNELS}'
    shared = call(f"{replay}:wrapper")
    assert (shared.exit_code, shared.output.partition(":")[0]) == (0, f"SHARED {KERNELS}")
    assert f"  shared: {in_words(LISTED.name)}\n" in shared.output
    assert [call(f"{replay}:{rest}").exit_code for rest in ("wrapper --strict", "calls_nothing")] == [1, 1]


def test_reports_name_shared_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Terminal, JSON and JUnit count the cases of each shared failure."""
    json_path, junit = tmp_path / "report.json", tmp_path / "report.xml"
    check(f"{KERNELS}:wrapper", inline=True, json=str(json_path), junit=str(junit), **{**OPTIONS, "quiet": False})
    said = f"shared: torch itself fails this: {LISTED.name}: 8 cases"
    assert said in capsys.readouterr().out
    document = json.loads(json_path.read_text(encoding="utf-8"))
    assert [(entry["name"], entry["cases"]) for entry in document["shared"]] == [(LISTED.name, 8)]
    assert document["results"][0]["shared"] == {LISTED.name: 8}
    assert f'name="shared: torch itself fails this: {LISTED.name}" value="8 cases"' in junit.read_text(encoding="utf-8")


X, W = torch.ones(2, 1, 3, 3), torch.ones(1, 1, 2, 2)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch calls it in forward mode
@pytest.mark.parametrize(
    "compute",
    [
        lambda: functional.conv2d(X, W),
        lambda: torch.conv2d(X.double(), W.double(), padding="valid"),
        lambda: functional.conv_transpose2d(X, W),
        lambda: torch.nn.grad.conv2d_weight(X, W.shape, torch.ones(2, 1, 2, 2)),
        lambda: torch.func.vmap(lambda x: functional.conv2d(x, W))(X),
        lambda: torch.func.grad(lambda w: functional.conv2d(X, w).sum())(W),
        lambda: torch.func.jvp(lambda w: functional.conv2d(X, w), (W,), (W,)),
        lambda: torch.inference_mode()(functional.conv2d)(X, W),
    ],
)
def test_each_kind_of_call_is_seen(compute: Callable[[], object]):
    """Calls forward, backward, by transforms and in inference mode are seen."""
    calls: list[torch.dtype] = []
    with ConvolutionWatch(calls.append):
        compute()
    assert calls


def test_a_backward_pass_is_seen():
    """A backward pass through a convolution that was recorded before is seen."""
    weight = W.clone().requires_grad_()
    y = functional.conv2d(X, weight).sum()
    calls: list[torch.dtype] = []
    with ConvolutionWatch(calls.append):
        y.backward()
    assert calls


def test_nothing_else_is_seen():
    """Other operators are not taken for convolutions, whatever their names."""
    calls: list[torch.dtype] = []
    with ConvolutionWatch(calls.append):
        conv2d(X, W)
        X[0, 0].to_sparse_csr()  # it converts
        functional.unfold(X, 2)
    assert not calls


CASE = Case.parse("input=1x1x1x1 weight=1x1x1x1")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("returned shape (1, 0, 2), not (1, 4, 2)", "returned shape (1, 0, 7), not (1, 8, 7)", True),
        ("raised RuntimeError: groups=-3", "raised RuntimeError: groups=0", True),
        ("raised RuntimeError: 1.5e-3 and inf", "raised RuntimeError: nan and 0x1f", True),
        ("raised RuntimeError: float16", "raised RuntimeError: float32", False),
        ("raised RuntimeError: no", "raised ValueError: no", False),
        ("returned shape (1, 0), not (1, 4)", "returned shape (1, 0, 7), not (1, 8, 7)", False),
    ],
)
def test_kinds_have_no_numbers(one: str, other: str, alike: bool):
    """Messages that differ only in numbers tell of the same kind of failure."""
    kinds = [Verdict(Status.FAIL, CASE, message).kind for message in (one, other)]
    assert (kinds[0] == kinds[1]) is alike


def test_kinds_of_wrong_numbers_name_the_result():
    """Wrong numbers are of one kind if they are in the same result."""
    messages = ("out[0, 1]=3, but should be 4 (1 of 2 wrong)", "out[1, 1]=nan, but should be 4, an error of inf")
    outputs = [Verdict(Status.FAIL, CASE, message, symptom=Symptom.VALUES) for message in messages]
    of_weight = outputs[0].replace(quantity="weight")
    assert outputs[0].kind == outputs[1].kind != of_weight.kind


def test_the_same_message_with_another_status_is_another_failure():
    """A crash is not an exception, whatever its message says."""
    assert Verdict(Status.CRASH, CASE, "no").kind != Verdict(Status.FAIL, CASE, "no").kind


def test_a_failure_that_became_torchs_own_while_it_was_shrunk(monkeypatch: pytest.MonkeyPatch):
    """Smaller cases are not compared with torch, but the smallest is; if torch fails it too, all are compared."""

    class Compared:
        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, verdict: Verdict, *, fill: bool = True) -> Excuse | None:
            compared.append((verdict.case, fill))
            return Excuse(Status.SHARED, UNLISTED) if verdict.case.weight[0] == 1 else None

    compared: list[tuple[Case, bool]] = []
    monkeypatch.setattr(judgement, "SharedFailures", Compared)
    subject = TorchSubject("zeros", lambda x, w, b=None, *rest: conv2d(x, w, b, *rest) * 0)
    (result,) = check(
        subject, law="forward-exact", dtype="float32", device="cpu", profile="smoke", max_failures=1, quiet=True
    ).results
    assert result.status is Status.FAIL
    assert result.failure.case.weight == (2, 1, 1, 1)
    # The first search ends with one output channel, and torch is not asked about any case between. Nor is it asked with
    # filled memory, which does not decide this failure.
    ended = next(number for number, (_, fill) in enumerate(compared) if fill) - 1
    assert compared[ended][0].weight == (1, 1, 1, 1)
    assert compared[ended - 1][0].weight[0] > 1
