"""What torch's subjects are asked for reaches autograd in the strides of the case."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import LAYOUTS, apply_layout
from toeplitz_core.testing.data.gradients import draw_with_directions
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search.drawing import READING_GRAD
from toeplitz_core.testing.subjects.interface import MemoryFormat, Procedure
from toeplitz_core.testing.subjects.outcome import BrokenContract
from toeplitz_core.testing.subjects.pytorch.contract import contract
from toeplitz_core.testing.subjects.pytorch.derivatives import DERIVATIVES
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject
from toeplitz_core.testing.subjects.pytorch.variants import torch_subject

OF_DERIVATIVES = [
    name
    for name, law in LAWS.items()
    if law.procedure in ("gradients", "double_backward", "functional_gradients", "vmap")
]
LAYOUTS_OF_IMAGES = [name for name, (_, _, axes) in LAYOUTS.items() if 4 in axes]


class _Seen(TorchDispatchMode):
    """The strides of the gradients of a result that convolutions are given, forward ones included."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.strides: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func) and tuple(args[0].shape) == self.shape:
            self.strides.append(args[0].stride())
        return func(*args, **(kwargs or {}))


def seen(case: Case, procedure: Procedure, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
    """The strides of the gradients that torch's convolutions are given."""
    mode = _Seen(case.output_shape if shape is None else shape)
    with mode:
        outcome = torch_subject("torch").run(case, draw_with_directions(case), procedure)
    assert outcome.status == "returned", outcome.message
    return mode.strides


@pytest.mark.parametrize("layout", LAYOUTS_OF_IMAGES)
@pytest.mark.parametrize("procedure", [name for name in READING_GRAD if name != "vmap"])
def test_gradient_has_the_strides_of_the_case(procedure: Procedure, layout: str) -> None:
    """The gradient of the result comes to torch's backward convolution in the strides that the case names."""
    case = Case.parse(f"input=2x3x5x6 weight=4x3x2x3 layout.grad={layout}")
    assert apply_layout(torch.zeros(case.output_shape), layout).stride() in seen(case, procedure)


def test_gradients_of_images_have_the_strides_of_the_case() -> None:
    """Mapped over a batch, the gradient of each image keeps its strides: here every second number of a row."""
    case = Case.parse("input=5x3x5x6 weight=4x3x2x3 layout.grad=sliced")
    # The rule for batches makes channels of images.
    assert [strides[-1] for strides in seen(case, "vmap", shape=(1, 20, 4, 4))] == [2]


def test_every_law_that_reads_a_gradient_is_known() -> None:
    """The laws whose data has a gradient are those whose procedure reads it, and forward mode, which does not."""
    reading = {law.name for law in LAWS.values() if law.procedure in READING_GRAD}
    assert reading == {
        "gradients-exact",
        "gradients-bound",
        "double-backward",
        "functional-gradients",
        "vmap",
        "adjoint",
        "transposed",
    }


@pytest.mark.parametrize(
    ("shape", "strides", "declared", "kept"),
    [
        ((2, 3, 4, 5), (60, 20, 5, 1), "contiguous", True),
        ((2, 3, 4, 5), (60, 20, 5, 1), "channels_last", False),
        ((2, 3, 4, 5), (60, 1, 15, 3), "channels_last", True),
        ((2, 3, 4, 5), (60, 1, 15, 3), "contiguous", False),
        ((2, 3, 4, 5), (120, 40, 10, 2), "contiguous", False),
        ((3, 4, 5), (1, 15, 3), "channels_last", True),  # no batch
        ((3, 4, 5), (20, 5, 1), "channels_last", False),
        ((2, 1, 4, 5), (20, 20, 5, 1), "channels_last", True),  # one channel: it is both
        ((0, 3, 4, 5), (60, 20, 5, 1), "channels_last", True),  # nothing is stored
        ((2, 3, 4, 5), (60, 1, 15, 3), None, True),
    ],
)
def test_declared_memory_format(
    shape: tuple[int, ...], strides: tuple[int, ...], declared: MemoryFormat | None, *, kept: bool
) -> None:
    """A result in another memory format than the declared one is told, strides and all; axes of length 1 have none."""
    given = {"input": torch.ones(1), "weight": torch.ones(1, 1, 1, 1)}

    def call(*_: object) -> torch.Tensor:
        return torch.empty_strided(shape, strides).fill_(1)

    with contextlib.nullcontext() if kept else pytest.raises(BrokenContract, match=f"not the .*, {declared}") as raised:
        assert contract(call, given, declared)["output"].shape == shape
    if not kept:
        assert f"shape {shape} and strides {strides}" in str(raised.value)


def test_the_contract_says_that_a_result_has_no_numbers() -> None:
    """A result on meta is a failure, and nothing that the subject does without."""

    def on_meta(*args: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(*args).to("meta")

    verdict = LAWS["contract"](TorchSubject("own", on_meta), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert (verdict.status, verdict.message) == (Status.FAIL, "returned a result on device meta, not cpu")


def test_the_contract_writes_to_no_inference_tensor() -> None:
    """A result of inference mode cannot be overwritten outside of it, which is no fault."""
    inference = torch.inference_mode()(torch.nn.functional.conv2d)
    verdict = LAWS["contract"](TorchSubject("own", inference), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert verdict.status is Status.PASS, verdict.message


def detached(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
    """A kernel of one's own, which autograd does not see."""
    with torch.no_grad():
        return torch.nn.functional.conv2d(x, weight, *rest)


class _Once(torch.autograd.Function):
    """A kernel with a backward pass that is differentiable once, as torch recommends."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.rest = rest
        return torch.nn.functional.conv2d(x, weight, bias, *rest)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        operands = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            y = torch.nn.functional.conv2d(*operands, None, *ctx.rest)
        batched = grad if grad.ndim == 4 else grad[None]
        of_bias = batched.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return *torch.autograd.grad(y, operands, grad), of_bias, *(None for _ in ctx.rest)


def once(*args: Any) -> torch.Tensor:
    """Differentiable once."""
    return _Once.apply(*args)  # type: ignore[no-untyped-call, no-any-return]


@pytest.mark.parametrize(
    ("function", "law", "status"),
    [
        *((detached, law, Status.UNSUPPORTED) for law in OF_DERIVATIVES),
        *((once, law, Status.PASS) for law in ("gradients-exact", "gradients-bound", "adjoint")),
        *((once, law, Status.UNSUPPORTED) for law in ("double-backward", "functional-gradients", "vmap")),
    ],
)
def test_derivatives_that_are_not_there_are_unsupported(
    function: Callable[..., torch.Tensor], law: str, status: Status
) -> None:
    """A kernel without derivatives, or with first ones alone, is not said to have wrong ones; a claim is held to."""
    data = "normal" if law == "gradients-bound" else "integers"
    case = Case.parse(f"input=2x3x5x6 weight=4x3x2x3 bias data={data}")
    assert LAWS[law](TorchSubject("own", function), case).status is status
    claimed = LAWS[law](TorchSubject("own", function, differentiable=True), case)
    assert claimed.status is (Status.PASS if status is Status.PASS else Status.FAIL)


def test_an_empty_result_needs_no_gradient() -> None:
    """Of an empty batch autograd may know that nothing depends on anything: the gradients are zeros."""

    def empty(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest)
        return y if y.numel() else x.new_zeros(y.shape) + x.sum()

    for law in ("gradients-exact", "double-backward"):
        case = Case.parse("input=0x3x5x6 weight=4x3x2x3 bias")
        verdict = LAWS[law](TorchSubject("own", empty, differentiable=True), case)
        assert not verdict.status.is_failure, verdict.message


@pytest.mark.parametrize("size", ["0x3x5x6", "2x3x5x6"])
def test_an_empty_result_is_no_second_derivative(size: str) -> None:
    """A kernel that is differentiable once has no second derivatives, of an empty batch neither."""
    case = Case.parse(f"input={size} weight=4x3x2x3 bias")
    assert LAWS["double-backward"](TorchSubject("own", once), case).status is Status.UNSUPPORTED


def test_nothing_proves_nothing() -> None:
    """Where autograd knows that nothing depends on anything, a subject that must have derivatives is not judged."""
    subject = TorchSubject("own", once, differentiable=True)
    verdict = LAWS["double-backward"](subject, Case.parse("input=0x3x5x6 weight=4x3x2x3 bias"))
    assert verdict.status is Status.MISTRUSTED


class _Refusing(torch.autograd.Function):
    """Refuses second derivatives by an exception of its own."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, error: Exception) -> torch.Tensor:  # type: ignore[override]
        ctx.error = error
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise ctx.error
        return grad, None


@pytest.mark.parametrize("error", [ValueError("no"), AssertionError("no"), RuntimeError("no"), NotImplementedError()])
def test_derivatives_may_be_refused_by_any_exception(error: Exception) -> None:
    """What no ordinary convolution has, the function does not claim, whatever it raises; if one has, it is wrong."""

    def never(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        return _Refusing.apply(torch.nn.functional.conv2d(x, *rest), error)  # type: ignore[no-untyped-call, no-any-return]

    def not_strided(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest)
        return y if rest[0] == (1, 1) else _Refusing.apply(y, error)  # type: ignore[no-untyped-call, no-any-return]

    case = Case.parse("input=2x3x5x6 weight=4x3x2x3 stride=2")
    assert LAWS["double-backward"](TorchSubject("own", never), case).status is Status.UNSUPPORTED
    refused = isinstance(error, NotImplementedError)
    found = LAWS["double-backward"](TorchSubject("own", not_strided), case)
    assert found.status is (Status.UNSUPPORTED if refused else Status.FAIL), found.message


def test_derivatives_may_be_there_for_some_dtypes() -> None:
    """What a function has in float32 it does not claim in float64, whichever was asked for first."""

    def single(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest)
        has = x.dtype == torch.float32 and rest[0] == (1, 1)
        return y if has else _Refusing.apply(y, ValueError("no"))  # type: ignore[no-untyped-call, no-any-return]

    line = "input=2x3x5x6 weight=4x3x2x3 stride=2"
    cases = {dtype: Case.parse(f"{line} dtype={dtype}") for dtype in ("float32", "float64")}
    for order in (("float32", "float64"), ("float64", "float32")):
        subject = TorchSubject("own", single)
        found = {dtype: LAWS["double-backward"](subject, cases[dtype]).status for dtype in order}
        assert found == {"float32": Status.FAIL, "float64": Status.UNSUPPORTED}


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError(), RuntimeError("x: can't allocate memory")])
def test_a_graph_may_be_too_large(error: Exception) -> None:
    """A worker has so much memory and no more, which is no mistake of second derivatives that nobody claimed."""

    def large(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, weight, *rest)
        return _Refusing.apply(y, error) if len(weight) > 3 else y  # type: ignore[no-untyped-call, no-any-return]

    case = Case.parse("input=2x3x5x6 weight=4x3x2x3")
    verdict = LAWS["double-backward"](TorchSubject("own", large), case)
    assert verdict.status is Status.UNSUPPORTED
    assert "more memory than there is" in verdict.message
    claimed = LAWS["double-backward"](TorchSubject("own", large, differentiable=True), case)
    assert claimed.status is Status.FAIL


def test_a_subject_that_repeats_itself_does_so_backward() -> None:
    """Who claims the same bits each time is held to that in gradients too."""
    steps = iter(range(1000))

    class Varies(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
            return values.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # likewise
            return torch.nextafter(grad, grad * (2 if next(steps) % 2 else 0))

    def varies(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(Varies.apply(x), *rest)  # type: ignore[no-untyped-call]

    case = Case.parse("input=2x3x5x6 weight=4x3x2x3 bias data=normal")
    assert LAWS["gradients-bound"](TorchSubject("own", varies), case).status is Status.PASS
    verdict = LAWS["gradients-bound"](TorchSubject("own", varies, repeatable=True), case)
    assert verdict.message == "another backward pass gave another gradient in its input"


@pytest.mark.parametrize("law", ["forward-exact", "matrix", "contract", "gradients-exact"])
def test_results_that_torch_conjugates_later(law: str) -> None:
    """A result, or a gradient, whose conjugation torch has put off is a result like any other."""

    class Lazy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
            return values.conj().resolve_conj().conj()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # likewise
            return grad.conj().resolve_conj().conj()

    def lazy(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(Lazy.apply(x), *rest)  # type: ignore[no-untyped-call]
        return Lazy.apply(y)  # type: ignore[no-untyped-call, no-any-return]

    assert lazy(torch.ones(1, 1, 1, 1, dtype=torch.complex64), torch.ones(1, 1, 1, 1, dtype=torch.complex64)).is_conj()
    case = Case.parse("input=2x3x5x6 weight=4x3x2x3 bias dtype=complex64")
    verdict = LAWS[law](TorchSubject("lazy", lazy), case)
    assert verdict.status is Status.PASS, verdict.message


class _Detached(torch.autograd.Function):
    """Of no elements there is nothing to differentiate."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        if not values.numel():
            ctx.mark_non_differentiable(y := values.clone())
            return y
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        return grad


@pytest.mark.parametrize("law", [name for name, law in LAWS.items() if law.procedure in DERIVATIVES])
def test_an_empty_result_may_be_detached(law: str) -> None:
    """Autograd may know that nothing depends on anything: there is nothing to be judged then."""

    def plain(*args: Any) -> torch.Tensor:
        return _Detached.apply(torch.nn.functional.conv2d(*args))  # type: ignore[no-untyped-call, no-any-return]

    verdict = LAWS[law](TorchSubject("own", plain), Case.parse("input=0x1x1x1 weight=1x1x1x1"))
    assert verdict.status in (Status.MISTRUSTED, Status.UNSUPPORTED), verdict.message


def test_a_recorded_backward_pass_has_to_work() -> None:
    """Where autograd has recorded one that fails, that is a failure; where it says NotImplementedError, it has none."""
    case = Case.parse("input=2x3x5x6 weight=4x3x2x3")

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor, error: Exception) -> torch.Tensor:  # type: ignore[override]
            ctx.error = error
            return values.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> None:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
            raise ctx.error

    def judged(error: Exception) -> Verdict:
        def fails(*args: Any) -> torch.Tensor:
            return Fails.apply(torch.nn.functional.conv2d(*args), error)  # type: ignore[no-untyped-call, no-any-return]

        return LAWS["gradients-exact"](TorchSubject("own", fails), case)

    found = judged(RuntimeError("workspace too small"))
    assert (found.status, found.message) == (Status.FAIL, "raised RuntimeError: workspace too small")
    assert judged(NotImplementedError("no")).status is Status.UNSUPPORTED


def test_an_operator_without_a_formula_has_no_gradients() -> None:
    """A custom operator that nobody has given a derivative does not claim one."""

    @torch.library.custom_op("toeplitz_core_tests::conv", mutates_args=())
    def conv(x: torch.Tensor, weight: torch.Tensor, padding: list[int]) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=padding)

    subject = TorchSubject("own", lambda x, weight, *rest: conv(x, weight, list(rest[2])))
    verdict = LAWS["gradients-exact"](subject, Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert verdict.status is Status.UNSUPPORTED
    assert "no autograd formula" in verdict.message


@pytest.mark.parametrize("wrong", [False, True])
def test_what_no_ordinary_convolution_has_proves_nothing(*, wrong: bool) -> None:
    """Who cannot be mapped is not said to be because one case can, but what comes out then is right."""

    def single(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        if torch._C._functorch.maybe_current_level() is not None:
            if weight.shape[2:] != (2, 3):
                raise RuntimeError("no batching rule")
            return torch.nn.functional.conv2d(x, weight, bias, *rest) + wrong
        return torch.nn.functional.conv2d(x, weight, bias, *rest)

    verdict = LAWS["vmap"](TorchSubject("own", single), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert verdict.status is (Status.FAIL if wrong else Status.UNSUPPORTED)
    assert wrong or "no ordinary convolution of it has vmap: RuntimeError: no batching rule" in verdict.message


def test_the_contract_says_that_a_result_is_sparse() -> None:
    """A result that is not strided is a failure, whatever the procedure could not do with it."""

    def sparse(*args: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(*args).to_sparse()

    verdict = LAWS["contract"](TorchSubject("own", sparse), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert (verdict.status, verdict.message) == (Status.FAIL, "returned layout torch.sparse_coo, not torch.strided")


def test_memory_can_be_shared_from_its_middle() -> None:
    """A result whose storage begins within that of its input is in its memory all the same."""
    x = torch.arange(12.0).view(1, 1, 3, 4)
    middle = torch.from_numpy(x.numpy()[:, :, 1:2])
    assert middle.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    with pytest.raises(BrokenContract, match="shares memory with its input"):
        contract(lambda *_: middle, {"input": x, "weight": torch.ones(1, 1, 1, 1)})
