"""Procedures of torch subjects: the memory contract, and derivatives in the strides of the case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import LAYOUTS, apply_layout
from toeplitz_core.testing.data.gradient_operands import draw_with_directions
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search.law_cases import READING_GRAD
from toeplitz_core.testing.subjects.interface import Procedure
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
    """Records the strides of the result gradients that torch's convolutions receive."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.strides: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func) and tuple(args[0].shape) == self.shape:
            self.strides.append(args[0].stride())
        return func(*args, **(kwargs or {}))


def seen(case: Case, procedure: Procedure, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
    """The strides of the result gradients that torch's convolutions receive in a procedure."""
    mode = _Seen(case.output_shape if shape is None else shape)
    with mode:
        outcome = torch_subject("torch").run(case, draw_with_directions(case), procedure)
    assert outcome.status == "returned", outcome.message
    return mode.strides


@pytest.mark.parametrize("layout", LAYOUTS_OF_IMAGES)
@pytest.mark.parametrize("procedure", [name for name in READING_GRAD if name != "vmap"])
def test_gradient_has_the_strides_of_the_case(procedure: Procedure, layout: str) -> None:
    """Torch's backward convolution receives the gradient of the result in the strides that the case names."""
    case = Case.parse(f"input=2x3x5x6 weight=4x3x2x3 layout.grad={layout}")
    assert apply_layout(torch.zeros(case.output_shape), layout).stride() in seen(case, procedure)


def test_gradients_of_images_have_the_strides_of_the_case() -> None:
    """Under vmap, the gradient of each image keeps its strides: here, every second element of a row."""
    case = Case.parse("input=5x3x5x6 weight=4x3x2x3 layout.grad=sliced")
    # The batching rule turns images into channels.
    assert [strides[-1] for strides in seen(case, "vmap", shape=(1, 20, 4, 4))] == [2]


def test_every_law_that_reads_a_gradient_is_known() -> None:
    """Exactly these laws have procedures that read the gradient of the result."""
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


def detached(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
    """A kernel that autograd does not record."""
    with torch.no_grad():
        return torch.nn.functional.conv2d(x, weight, *rest)


class _Once(torch.autograd.Function):
    """A kernel whose backward pass is once differentiable, as torch recommends."""

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
    """A convolution that is differentiable once."""
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
    """Missing derivatives are unsupported, unless the subject claims to be differentiable: then they fail."""
    data = "normal" if law == "gradients-bound" else "integers"
    case = Case.parse(f"input=2x3x5x6 weight=4x3x2x3 bias data={data}")
    assert LAWS[law](TorchSubject("own", function), case).status is status
    claimed = LAWS[law](TorchSubject("own", function, differentiable=True), case)
    assert claimed.status is (Status.PASS if status is Status.PASS else Status.FAIL)


def test_an_empty_result_needs_no_gradient() -> None:
    """For an empty batch, autograd may return no gradient; that counts as zeros."""

    def empty(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest)
        return y if y.numel() else x.new_zeros(y.shape) + x.sum()

    for law in ("gradients-exact", "double-backward"):
        case = Case.parse("input=0x3x5x6 weight=4x3x2x3 bias")
        verdict = LAWS[law](TorchSubject("own", empty, differentiable=True), case)
        assert not verdict.status.is_failure, verdict.message


@pytest.mark.parametrize("size", ["0x3x5x6", "2x3x5x6"])
def test_an_empty_result_is_no_second_derivative(size: str) -> None:
    """A kernel that is differentiable once has no second derivatives, even for an empty batch."""
    case = Case.parse(f"input={size} weight=4x3x2x3 bias")
    assert LAWS["double-backward"](TorchSubject("own", once), case).status is Status.UNSUPPORTED


def test_nothing_proves_nothing() -> None:
    """An empty result without second derivatives proves nothing about a subject that must have them."""
    subject = TorchSubject("own", once, differentiable=True)
    verdict = LAWS["double-backward"](subject, Case.parse("input=0x3x5x6 weight=4x3x2x3 bias"))
    assert verdict.status is Status.MISTRUSTED


class _Refusing(torch.autograd.Function):
    """An identity whose second derivatives raise a given exception."""

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
    """A derivative that raises is unsupported if every ordinary convolution raises too, else it is a failure."""

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
    """Derivatives in float32 are no claim for float64, whichever dtype is asked for first."""

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
    """A graph that exceeds the memory is unsupported, unless the subject claims to be differentiable."""

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
    """A subject that claims to be repeatable must return the same bits for gradients too."""
    steps = iter(range(1000))

    class Varies(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
            return values.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
            return torch.nextafter(grad, grad * (2 if next(steps) % 2 else 0))

    def varies(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(Varies.apply(x), *rest)  # type: ignore[no-untyped-call]

    case = Case.parse("input=2x3x5x6 weight=4x3x2x3 bias data=normal")
    assert LAWS["gradients-bound"](TorchSubject("own", varies), case).status is Status.PASS
    verdict = LAWS["gradients-bound"](TorchSubject("own", varies, repeatable=True), case)
    assert verdict.message == "each gradient is right, but another backward pass gave other bits in its input"


@pytest.mark.parametrize("law", ["forward-exact", "matrix", "contract", "gradients-exact"])
def test_results_that_torch_conjugates_later(law: str) -> None:
    """A result or gradient that torch conjugates lazily passes."""

    class Lazy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
            return values.conj().resolve_conj().conj()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
            return grad.conj().resolve_conj().conj()

    def lazy(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(Lazy.apply(x), *rest)  # type: ignore[no-untyped-call]
        return Lazy.apply(y)  # type: ignore[no-untyped-call, no-any-return]

    assert lazy(torch.ones(1, 1, 1, 1, dtype=torch.complex64), torch.ones(1, 1, 1, 1, dtype=torch.complex64)).is_conj()
    case = Case.parse("input=2x3x5x6 weight=4x3x2x3 bias dtype=complex64")
    verdict = LAWS[law](TorchSubject("lazy", lazy), case)
    assert verdict.status is Status.PASS, verdict.message


class _Detached(torch.autograd.Function):
    """An identity that marks an empty result as not differentiable."""

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
    """An empty result that is detached from autograd proves nothing."""

    def plain(*args: Any) -> torch.Tensor:
        return _Detached.apply(torch.nn.functional.conv2d(*args))  # type: ignore[no-untyped-call, no-any-return]

    verdict = LAWS[law](TorchSubject("own", plain), Case.parse("input=0x1x1x1 weight=1x1x1x1"))
    assert verdict.status in (Status.MISTRUSTED, Status.UNSUPPORTED), verdict.message


def test_a_recorded_backward_pass_has_to_work() -> None:
    """A recorded backward pass that raises is a failure; with NotImplementedError it is unsupported."""
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
    """A custom operator without an autograd formula has no gradients, which is unsupported."""

    @torch.library.custom_op("toeplitz_core_tests::conv", mutates_args=())
    def conv(x: torch.Tensor, weight: torch.Tensor, padding: list[int]) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=padding)

    subject = TorchSubject("own", lambda x, weight, *rest: conv(x, weight, list(rest[2])))
    verdict = LAWS["gradients-exact"](subject, Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert verdict.status is Status.UNSUPPORTED
    assert "no autograd formula" in verdict.message


@pytest.mark.parametrize("wrong", [False, True])
def test_what_no_ordinary_convolution_has_proves_nothing(*, wrong: bool) -> None:
    """A derivative that ordinary convolutions lack is never a pass, but a wrong one is a failure."""

    def single(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        if torch._C._functorch.maybe_current_level() is not None:
            if weight.shape[2:] != (2, 3):
                raise RuntimeError("no batching rule")
            return torch.nn.functional.conv2d(x, weight, bias, *rest) + wrong
        return torch.nn.functional.conv2d(x, weight, bias, *rest)

    verdict = LAWS["vmap"](TorchSubject("own", single), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert verdict.status is (Status.FAIL if wrong else Status.UNSUPPORTED)
    assert wrong or "has no vmap, not even for an ordinary convolution: RuntimeError: no batch" in verdict.message
