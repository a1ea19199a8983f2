"""Failures become findings: one for each bug."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.faults.convolution import Convolution, implementation, padded
from tests.helpers.running import law_of
from toeplitz_core.testing import check
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.gathering import CALLS, Gathering
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.symptom import Symptom

LAWS_OF_VALUES = ("forward-exact", "forward-bound", "stride")


def found(compute: Any, **options: Any) -> tuple[Finding, ...]:
    """The findings of a short run in this process."""
    given = {
        "law": LAWS_OF_VALUES,
        "dtype": ("float32", "float64"),
        "device": "cpu",
        "profile": "smoke",
        "seed": 1,
    } | options
    record = check(TorchSubject("planted", implementation(compute)), quiet=True, **given)
    assert all(record.finding_of(r.step, f) for r in record.results for f in r.failures)
    return tuple(record.findings)


def flips(c: Convolution) -> Tensor:
    """The kernel is flipped along both axes."""
    return c.replace(weight=c.weight.flip(2, 3)).value()


def flips_and_drops(c: Convolution) -> Tensor:
    """The kernel is flipped without a bias; with one, the last column is missing."""
    if c.bias is None:
        return flips(c)
    y = c.value()
    y[..., -1] = 0
    return y


def refuses_strides_and_doubles(c: Convolution) -> Tensor:
    """Strides raise; without one, results are doubled."""
    if max(c.stride) > 1:
        raise ValueError(f"stride {c.stride} of {c.dtype} is not written yet")
    return c.value() * 2


def test_one_bug_is_one_finding():
    """All laws and dtypes that fail for one reason are one finding, with its cause, its smallest case and its needs."""
    (finding,) = found(flips)
    assert finding.cause == "kernel-flipped"
    assert set(finding.laws) == set(LAWS_OF_VALUES)
    assert finding.dtypes == ("float32", "float64")
    assert finding.failure.case.geometry.nnz <= 4
    assert finding.failure.case.data == "one-hot"
    assert finding.failure.difference is not None
    assert all({sample.actual, sample.expected} == {"0", "1"} for sample in finding.failure.difference.samples)
    assert any(need.endswith("> 1") for need in finding.needs)
    assert "for 5 random inputs" in finding.evidence


def test_what_vmap_finds_of_one_image_is_no_finding_of_its_own():
    """Under vmap, the subject is called with images without a batch axis, and the same dtype is wrong there."""

    def widens_single_images(x, *others):  # noqa: ANN001, ANN002, ANN202  # F.conv2d's signature
        y = torch.nn.functional.conv2d(x, *others)
        return y.double() if x.dim() == 3 else y

    laws = ("forward-exact", "vmap")
    record = check(TorchSubject("planted", widens_single_images), law=laws, dtype="float32", device="cpu", quiet=True)
    (finding,) = record.findings
    assert (finding.cause, finding.laws) == ("wrong-dtype", laws)


def test_a_mistake_that_one_product_does_not_show_keeps_its_numbers():
    """Results that lose their low bits are shown with numbers that have some."""
    (finding,) = found(lambda c: c.value().bfloat16().to(c.dtype), law="forward-exact", dtype="float32")
    assert finding.failure.case.data != "one-hot"


def test_no_rounding_explains_that_one_product_is_wrong():
    """A result that is a little too large is within the bound of TF32, but 1 times 1 is 1 for rounded operands too."""
    causes = {finding.cause for finding in found(lambda c: c.value() * (1 + 2**-21), dtype="float32")}
    assert causes.isdisjoint({"inputs-rounded", "narrow-accumulator", "subnormals-flushed"})


def test_an_id_survives_another_seed_and_another_law():
    """An id depends on subject, cause and symptom alone."""
    (one,) = found(flips)
    (other,) = found(flips, law="stride", dtype="float64", seed=7)
    assert one.id == other.id


def test_an_id_says_nothing_of_the_case():
    """Findings with the same subject, cause and symptom have one id, whatever their smallest case and status are."""
    one, other = (
        Finding("mine", failing(law, message, Symptom.VALUES).failures[0], "kernel-flipped", "")
        for law, message in (("forward-exact", "out[0]=1"), ("stride", "out[0, 1]=2"))
    )
    assert one.failure.case != other.failure.case
    assert one.id == other.id != replace(one, cause="bias-missing").id
    assert replace(one, number=2).id == f"{one.id}-2"


def test_two_bugs_are_two_findings():
    """Two bugs of one kernel are told apart, though each law meets both."""
    causes = {finding.cause for finding in found(flips_and_drops)}
    assert causes == {"kernel-flipped", "outputs-dropped"}


def drops_and_adds_in_groups(c: Convolution) -> Tensor:
    """The last column is missing in wide results; if there are groups, one is added to these, too."""
    y = c.value()
    if y.shape[-1] <= 2:
        return y
    y[..., -1] = 0
    return y + 1 if c.groups > 1 else y


def test_a_bug_does_not_hide_behind_one_that_it_needs():
    """A case that needs all that another bug needs, and more, is another finding if its numbers are others."""
    first, second = found(drops_and_adds_in_groups, law=("forward-exact", "forward-bound"))
    assert (first.cause, second.cause) == ("outputs-dropped", "unknown")
    assert second.failure.case.geometry.groups > 1 == first.failure.case.geometry.groups


def leaves_out_part_of_odd_rows(c: Convolution) -> Tensor:
    """A vector of four that is not full is missing in odd rows."""
    y = c.value()
    width = y.shape[-1]
    if width > 4 and width % 4:
        y[..., 1::2, width - width % 4 :] = 0
    return y


def test_a_bug_without_a_name_is_one_finding_of_all_data():
    """A bug that nothing in the catalogue explains is one finding, though special values hide it now and then."""
    (finding,) = found(leaves_out_part_of_odd_rows, law=("forward-exact", "special-values"))
    assert finding.cause == "unknown"
    assert set(finding.laws) == {"forward-exact", "special-values"}


def takes_nan_for_zero(c: Convolution) -> Tensor:
    """NaN in the image is taken for 0, and weights are multiplied by the zeros of the padding."""
    x = padded(torch.where(c.input.isnan(), 0, c.input), c.pads)
    return c.replace(input=x, pads=((0, 0), (0, 0))).value()


def test_weights_that_meet_padding_are_no_second_finding():
    """Infinity times a zero of the padding may be NaN, beside the numbers that a mistake predicts."""
    (finding,) = found(takes_nan_for_zero, law="special-values", dtype="float32", profile="gate")
    assert finding.cause == "nan-dropped"


def test_needs_are_those_of_many_numbers():
    """A case with a single product has the needs of its bug, and not those of where the one is."""

    def later_images(x, w, b=None, *rest):  # noqa: ANN001, ANN002, ANN202  # F.conv2d's signature
        y = torch.nn.functional.conv2d(x, w, b, *rest)
        return y if y.ndim == 3 else torch.cat((y[:1], 2 * y[1:]))

    case = Case.parse("input=2x1x1x1 weight=1x1x1x1 data=one-hot seed=1 law=forward-exact")
    subject = TorchSubject("later images", later_images)
    cases = (case.replace(seed=seed) for seed in range(8))
    failure = next(v for each in cases if (v := LAWS["forward-exact"](subject, each)).status is Status.FAIL)
    finding = Gathering(lambda _: subject, LAWS, polish=False).add(
        Step("later images", "forward-exact", "float32", "cpu"), failure
    )
    assert finding.needs == ("batch > 1",)


def test_no_smaller_case_is_outside_the_domain():
    """The smallest case of a finding is one that the kernel is for."""
    (finding,) = found(flips, where="groups > 1 and stride == (2, 2)")
    assert finding.failure.case.groups > 1
    assert finding.failure.case.stride == (2, 2)


def test_exceptions_of_all_dtypes_are_one_finding():
    """An exception is one finding in every dtype, beside the finding of wrong numbers."""
    findings = found(refuses_strides_and_doubles, law=("forward-exact", "forward-bound"))
    assert sorted(finding.cause for finding in findings) == ["outputs-scaled", "refused"]
    (refused,) = (finding for finding in findings if finding.cause == "refused")
    assert refused.dtypes == ("float32", "float64")


def failing(law: str, message: str, symptom: Symptom, status: Status = Status.FAIL) -> Result:
    """A result with one failure."""
    case = Case.parse(f"input=1x1x1x1 weight=1x1x1x1 law={law}")
    failure = Verdict(status, case, message, symptom=symptom)
    return Result(Step("nowhere", law, "float32", "cpu"), status, failure=failure, message=message)


def test_a_hang_is_made_smaller_and_says_what_it_needs():
    """Its needs are those of the smallest case, and no case around it is called."""
    hung = []

    def status(case: Case) -> Status:
        hangs = case.weight[0] > 2
        hung.extend([case] * hangs)
        return Status.TIMEOUT if hangs else Status.PASS

    law = law_of(status, "forward-exact")
    gathering = Gathering(lambda _: TorchSubject("mine", torch.conv2d), {law.name: law})
    case = Case.parse("input=2x3x9x9 weight=40x3x3x3 law=forward-exact")
    finding = gathering.add(Step("mine", law.name, "float32", "cpu"), law(TorchSubject("mine", torch.conv2d), case))
    assert str(finding.failure.case) == "input=1x1x1x1 weight=3x1x1x1 law=forward-exact"
    assert finding.needs == ("out_channels >= 3",)
    assert len(hung) < CALLS[Status.TIMEOUT][0]


def test_an_interrupted_run_calls_no_subject():
    """Then failures that look alike are one finding; its cause is what it looks like, or unknown."""
    gathering = Gathering(lambda _: pytest.fail("a subject was called"), LAWS)
    wrong = [failing(law, "out[0]=1, but should be 2", Symptom.VALUES) for law in ("forward-exact", "stride")]
    crash = failing("padding", "was killed by SIGSEGV", Symptom.CRASH, Status.CRASH)
    gathering.gather([*wrong, crash], briefly=True)
    assert [(finding.cause, finding.laws) for finding in gathering.findings] == [
        ("crash", ("padding",)),
        ("unknown", ("forward-exact", "stride")),
    ]


def test_a_right_subject_has_no_finding():
    """Without a failure there is nothing to find."""
    assert found(lambda c: c.value()) == ()


def test_a_failure_is_reported_if_nothing_can_be_learnt():
    """If a subject cannot be called any more, its failure is a finding without a cause, which says why."""
    gathering = Gathering(lambda name: {}[name], LAWS)
    gathering.gather([failing("forward-exact", "out[0]=1, but should be 2", Symptom.VALUES)])
    (finding,) = gathering.findings
    assert (finding.cause, finding.evidence) == ("unknown", "not examined, because of KeyError: 'nowhere'")


def refuses_half_without_bias(c: Convolution) -> Tensor:
    """The bias is missing, and half precision is not supported."""
    if c.input.dtype == torch.float16:
        raise NotImplementedError("half precision")
    return c.replace(bias=None).value()


def test_failures_with_one_smallest_case_are_one_finding(monkeypatch: pytest.MonkeyPatch):
    """A failure that looks like another bug belongs to the finding whose smallest case is also its own."""
    monkeypatch.setattr(Gathering, "_same", lambda *_: False)
    findings = found(refuses_half_without_bias, law=("forward-exact", "stride"), dtype="float32")
    assert [(finding.cause, str(finding.failure.case)) for finding in findings] == [
        ("bias-missing", "input=1x1x1x1 weight=1x1x1x1 bias data=one-hot law=forward-exact")
    ]


def test_what_a_subject_does_not_support_is_no_need():
    """The needs name no dtype, although one dtype does not fail: the subject does not support it."""
    (finding,) = found(refuses_half_without_bias)
    assert finding.needs == ("bias",)


def doubles_the_bias_of_strides_and_swaps_dilations(c: Convolution) -> Tensor:
    """Two bugs, which some cases have at once; each alone is found as well."""
    y = c.replace(dilation=c.dilation[::-1]).value()
    return y if c.bias is None or max(c.stride) == 1 else y + c.bias[:, None, None]


def test_two_bugs_at_once_are_no_third_one():
    """A case that meets the needs of two bugs is explained by neither alone, and is no finding of its own."""
    findings = found(doubles_the_bias_of_strides_and_swaps_dilations, law="forward-exact", seed=0, profile="gate")
    assert {finding.cause: set(finding.needs) for finding in findings} == {
        "bias-doubled": {"bias", "largest stride > 1"},
        "dilation-swapped": {"dilation[0] != dilation[1]", "largest kernel > 1"},
    }
    assert len(findings) == 2


@pytest.mark.parametrize(
    ("of", "words"), [(slice(0, 1), "the first image alone"), (slice(-1, None), "the last image alone")]
)
def test_a_gradient_of_some_images_alone(of: slice, words: str):
    """The weight gradient is a sum over images; one that leaves some out has a cause."""

    class Part(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor, c: Convolution) -> Tensor:
            ctx.save_for_backward(x, w)
            ctx.c = c
            return c.replace(input=x, weight=w).value()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
            x, w = (t.detach().requires_grad_() for t in ctx.saved_tensors)
            with torch.enable_grad():
                y = ctx.c.replace(input=x, weight=w).value()
                some = ctx.c.replace(input=x[of], weight=w).value()
            return torch.autograd.grad(y, x, grad)[0], torch.autograd.grad(some, w, grad[of])[0], None

    def fault(c: Convolution) -> Tensor:
        if c.input.ndim == 3 or c.bias is not None:
            raise NotImplementedError
        return Part.apply(c.input, c.weight, c)

    (finding,) = found(fault, law="gradients-exact", dtype="float64")
    assert finding.cause == "gradient-batch-mixed"
    assert words in finding.evidence


def test_an_exception_of_every_law_is_one_finding():
    """A function with too few parameters raises the same error in each law, whichever found the failing call."""

    def too_few(x: Tensor) -> Tensor:
        return x

    laws, dtypes = ("forward-exact", "matrix", "additive-in-input"), ("float32", "int64")
    subject = TorchSubject("planted", too_few)
    record = check(subject, law=laws, dtype=dtypes, device="cpu", profile="smoke", quiet=True)
    (finding,) = record.findings
    assert finding.cause == "refused"
    assert set(finding.laws) == set(laws)


def test_results_that_depend_on_memory_are_one_finding():
    """Their numbers are not the same twice, so that only the cause can bring them together."""
    names = ("forward-exact", "stale-memory", "matrix")
    record = check(
        "tests.faults.contracts:adds_to_what_memory_held", law=names, dtype="float32", device="cpu", quiet=True
    )
    assert [finding.cause for finding in record.findings] == ["stale-memory"]
