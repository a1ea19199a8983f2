"""Derivatives of a function on torch tensors: gradients of all kinds, together with the results.

Each procedure takes the function and the operands and returns named tensors, as :mod:`.contract` describes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence

import torch
from torch.autograd import forward_ad

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import OPERANDS
from toeplitz_core.testing.data.operands import in_bytes
from toeplitz_core.testing.subjects.interface import Procedure
from toeplitz_core.testing.subjects.outcome import OUTPUT, BrokenContract, ResultName, Results
from toeplitz_core.testing.subjects.pytorch.memory_contract import ConvFunction, Tensors, arguments
from toeplitz_core.testing.subjects.symptom import Symptom

# The gradients of a second backward pass through the same graph.
AGAIN = "a second time"


class DetachedError(NotImplementedError):
    """A result is not attached to autograd, or has no tangent."""


class PartlyDetachedError(BrokenContract):
    """A result has tangents along some operands, but not along all."""


def direction(operand: str) -> str:
    """The key of an operand's direction among the given tensors."""
    return f"{operand} direction"


def along(operand: str) -> ResultName:
    """The derivative of the result along the direction of one operand alone."""
    return ResultName(f"along-{operand}")


def gradients(call: ConvFunction, given: Tensors) -> Results:
    """Gradients of ``grad . call(...)`` in all operands at once, and in each smaller set of operands.

    The results of the calls are returned with them.

    Raises
    ------
    BrokenContract
        If a result is attached to autograd although no operand requires a gradient, or detached although one does; if
        such an operand gets no gradient; if a backward pass changes ``grad`` or ``requires_grad`` of an operand; if a
        later call or backward pass changes what an earlier one returned.
    """
    names = [name for name in OPERANDS if name in given]
    constant = call(*arguments(leaves_of(given, ())))
    if constant.requires_grad:
        raise BrokenContract("returned a result that is attached to autograd, although no operand requires a gradient")
    found = {ResultName("output", "without gradients"): constant, **_gradients_in_all(call, given, names)}
    for chosen in _subsets(names)[1:]:
        leaves = leaves_of(given, chosen)
        # Not leaves of the graph, as in every layer after the first.
        passed_on = {name: leaf[...] if name in chosen else leaf for name, leaf in leaves.items()}
        result = call(*arguments(passed_on))
        found[_output_with_gradients(chosen)] = result.detach()
        if not result.requires_grad:
            if not result.numel():  # nothing depends on anything
                continue
            said = f"its result is detached from autograd although {_listed(chosen)} needs a gradient"
            raise BrokenContract(said, Symptom.DETACHED)
        values = _backward(result, {name: leaves[name] for name in chosen}, given["grad"])
        for name, value in values.items():
            others = [other for other in chosen if other != name]
            found[ResultName(name, f"with {_listed(others)}" if others else "alone")] = value
        _check_left_alone(leaves, chosen)
    return found


def _gradients_in_all(call: ConvFunction, given: Tensors, names: Sequence[str]) -> dict[ResultName, torch.Tensor]:
    """Gradients in all operands: twice, next to another graph, and after the operands were changed in place."""
    leaves, others = leaves_of(given, names), leaves_of({name: -given[name] for name in names}, names)
    result = attached(call(*arguments(leaves)))
    found = {_output_with_gradients(names): result.detach()}
    before = {name: in_bytes(values) for name, values in found.items()}
    other = attached(call(*arguments(others)))
    _check_kept(found, before)
    for time in ("", AGAIN):
        values = _backward(result, leaves, given["grad"], retain_graph=not time)
        found |= {ResultName(name, time): value for name, value in values.items()}
    _check_left_alone(leaves, names)
    before = {name: in_bytes(values) for name, values in found.items()}
    with torch.no_grad():
        for operand in others.values():
            operand.neg_()
    try:
        values = _backward(other, others, given["grad"])
    except BrokenContract:
        raise
    except Exception:  # noqa: BLE001  # autograd refuses a graph whose operands were changed in place
        values = {}
    # These gradients belong to the negated input and weight.
    before_change = "recorded before the operands changed"
    found |= {ResultName(name, before_change): -v if name != "bias" else v for name, v in values.items()}
    again = attached(call(*arguments(others)))
    after_change = "after the operands changed"
    found[ResultName("output", after_change)] = again.detach()
    values = _backward(again, others, -given["grad"])
    found |= {ResultName(name, after_change): -value for name, value in values.items()}
    _check_kept(found, before)
    return found


def _check_kept(found: Results, before: Results) -> None:
    """Check that another call or backward pass did not change what was returned before."""
    for name, content in before.items():
        if not torch.equal(in_bytes(found[name]), content):
            what = "result" if name.of == OUTPUT.of else f"gradient in its {name.of}"
            raise BrokenContract(f"changed the {what} of an earlier recorded call during a later one", Symptom.BUFFER)


def _output_with_gradients(names: Collection[str]) -> ResultName:
    return ResultName(OUTPUT.of, f"with gradients in {_listed(names)}")


def _subsets(names: list[str]) -> list[tuple[str, ...]]:
    """All non-empty subsets, the largest first."""
    return [chosen for count in range(len(names), 0, -1) for chosen in itertools.combinations(names, count)]


def leaves_of(given: Tensors, chosen: Collection[str]) -> dict[str, torch.Tensor]:
    """The operands as leaves of a graph; the chosen ones require gradients."""
    return {name: given[name].detach().requires_grad_(name in chosen) for name in OPERANDS if name in given}


def _backward(result: torch.Tensor, leaves: Tensors, grad: torch.Tensor, **kept: bool) -> dict[str, torch.Tensor]:
    values = torch.autograd.grad(result, list(leaves.values()), grad, allow_unused=True, **kept)
    found = {}
    for (name, leaf), value in zip(leaves.items(), values, strict=True):
        if value is None and result.numel():
            raise BrokenContract(f"no gradient reaches its {name}", Symptom.DETACHED)
        # An empty result depends on nothing, and autograd may report that as no gradient.
        found[name] = torch.zeros_like(leaf) if value is None else value
    return found


def _check_left_alone(leaves: Tensors, chosen: Collection[str]) -> None:
    """Check that the backward pass changed neither ``requires_grad`` nor ``grad`` of an operand."""
    for name, leaf in leaves.items():
        if leaf.requires_grad != (name in chosen):
            raise BrokenContract(f"changed requires_grad of its {name}", Symptom.OPERAND)
        if leaf.grad is not None:
            raise BrokenContract(f"wrote to {name}.grad in a backward pass that returns gradients", Symptom.OPERAND)


def _listed(names: Collection[str]) -> str:
    return " and ".join(names)


def double_backward(call: ConvFunction, given: Tensors) -> Results:
    """Gradients in input, weight and ``grad`` of the inner product of the gradients with the directions.

    Also, for each operand, the gradient in ``grad`` of its gradient alone. That is the derivative of the result along
    the direction of the operand.
    """
    names = [name for name in OPERANDS if name in given]
    found = _of_gradients(call, given, names, ("input", "weight", "grad"))
    for name in names:
        try:
            alone = _of_gradients(call, given, [name], ("grad",))
        except DetachedError as error:
            if found[OUTPUT].numel():
                said = f"the gradient in its {name} alone is not attached to autograd"
                raise BrokenContract(said, Symptom.DETACHED) from error
            continue
        found |= {along(name): alone[ResultName("grad")], _output_with_gradients([name]): alone[OUTPUT]}
    return found


def _of_gradients(
    call: ConvFunction, given: Tensors, chosen: Collection[str], targets: Collection[str]
) -> dict[ResultName, torch.Tensor]:
    """The result, and the gradients in the targets of the chosen operands' gradients along their directions."""
    leaves = {name: given[name].detach().requires_grad_(name in chosen) for name in OPERANDS if name in given}
    grad = given["grad"].detach().requires_grad_()
    result = attached(call(*arguments(leaves)))
    first = _backward(result, {name: leaves[name] for name in chosen}, grad, create_graph=True)
    known = {name: gradient for name, gradient in first.items() if gradient.requires_grad}
    wanted = {name: grad if name == "grad" else leaves[name] for name in targets}
    second: Sequence[torch.Tensor | None] = (None,) * len(wanted)
    if known:
        directions = [given[direction(name)] for name in known]
        second = torch.autograd.grad(list(known.values()), list(wanted.values()), directions, allow_unused=True)
    if all(value is None for value in second):
        # Not even linear in grad: torch.autograd.function.once_differentiable, say, allows only one derivative.
        raise DetachedError("its gradients are not attached to autograd, so they have no gradients themselves")
    # The result of an empty batch depends on nothing, and autograd may report that as no gradient.
    values = zip(wanted.items(), second, strict=True)
    return {OUTPUT: result} | {
        ResultName(name): torch.zeros_like(leaf) if value is None else value for (name, leaf), value in values
    }


def forward_mode(call: ConvFunction, given: Tensors) -> Results:
    """The result and its forward-mode derivative along all directions together and along each one alone."""
    names = [name for name in OPERANDS if name in given]
    found: dict[ResultName, torch.Tensor] = {}
    for key, chosen in {ResultName("tangent"): names, **{along(name): [name] for name in names}}.items():
        with forward_ad.dual_level():
            duals = {
                name: forward_ad.make_dual(given[name].detach(), given[direction(name)])
                if name in chosen
                else given[name].detach()
                for name in names
            }
            result = forward_ad.unpack_dual(call(*arguments(duals)))
            if result.tangent is None:
                message = f"its result has no forward-mode derivative along its {_listed(chosen)}"
                raise PartlyDetachedError(message) if found else DetachedError(message)
            found[key] = result.tangent.clone()
            found[ResultName("output", f"with directions of {_listed(chosen)}")] = result.primal.clone()
    return found


def functional_gradients(call: ConvFunction, given: Tensors) -> Results:
    """Gradients by ``torch.func.vjp`` with ``grad``, and by ``torch.func.grad`` of the sum of products with it."""
    names = tuple(name for name in OPERANDS if name in given)
    values = [given[name].detach() for name in names]
    # torch.func treats a detached result as a constant with gradient zero.
    attached(call(*arguments(leaves_of(given, names))))

    def result(*values: torch.Tensor) -> torch.Tensor:
        return call(*arguments(dict(zip(names, values, strict=True))))

    def number(*values: torch.Tensor) -> torch.Tensor:
        products = result(*values) * given["grad"].conj()
        return (products.real if products.is_complex() else products).sum()

    output, pull_back = torch.func.vjp(result, *values)  # type: ignore[misc]  # two without auxiliary values
    gradients = torch.func.grad(number, tuple(range(len(names))))(*values)
    by_vjp = dict(zip(map(ResultName, names), pull_back(given["grad"]), strict=True))
    by_grad = {ResultName(name, "by torch.func.grad"): value for name, value in zip(names, gradients, strict=True)}
    return {OUTPUT: output, **by_vjp, **by_grad}


def vmap(call: ConvFunction, given: Tensors) -> Results:
    """Results of ``torch.func.vmap`` over images, weights and biases, and the weight gradient of each image.

    An input without a batch axis is mapped as a batch of one. Two weights and two biases are mapped: those of the case
    and their negatives. Images are mapped over the first and over the last axis, weights over the second.
    """
    weight, bias = given["weight"], given.get("bias")
    attached(call(*arguments(leaves_of(given, OPERANDS))))

    def image(x: torch.Tensor) -> torch.Tensor:
        return call(x, weight, bias)

    def of_image(weight: torch.Tensor, x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        pulled_back = torch.func.vjp(lambda weight: call(x, weight, bias), weight)[1]
        gradient: torch.Tensor = pulled_back(grad)[0]
        return gradient

    x, grad = given["input"], given["grad"]
    single = x.ndim < weight.ndim
    x, grad = (x[None], grad[None]) if single else (x, grad)
    each = {
        OUTPUT: torch.func.vmap(image)(x),
        ResultName("output", "of images on the last axis"): torch.func.vmap(image, in_dims=-1)(x.movedim(0, -1)),
    }
    found = {name: y[0] if single else y for name, y in each.items()}
    found[ResultName("weights")] = torch.func.vmap(of_image, in_dims=(None, 0, 0))(weight, x, grad)
    weights = torch.stack((weight, -weight), dim=1)

    def of_weight(weight: torch.Tensor) -> torch.Tensor:
        return call(given["input"], weight, bias)

    found[ResultName("outputs")] = torch.func.vmap(of_weight, in_dims=1)(weights)
    if bias is not None:

        def of_bias(bias: torch.Tensor) -> torch.Tensor:
            return call(given["input"], weight, bias)

        found[ResultName("outputs-of-biases")] = torch.func.vmap(of_bias)(torch.stack((bias, -bias)))
    return found


def transposed(
    function: Callable[..., torch.Tensor], geometry: ConvGeometry, grad: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """``F.conv_transpose2d`` of ``grad`` with the same weight; the output padding gives the size of the input."""
    if any(low != high for low, high in geometry.pads):
        raise NotImplementedError("conv_transpose2d pads both sides alike")
    padding = [low for low, _ in geometry.pads]
    axes = zip(geometry.output_size, geometry.stride, padding, geometry.kernel_extent, strict=True)
    sizes = [(n - 1) * stride - 2 * pad + extent for n, stride, pad, extent in axes]
    rest = [size - found for size, found in zip(geometry.input_size, sizes, strict=True)]
    # Its matrix is T.mT, and the adjoint of T is the conjugate of that.
    return function(grad, weight.conj(), None, geometry.stride, padding, rest, geometry.groups, geometry.dilation)


DERIVATIVES: dict[Procedure, Callable[[ConvFunction, Tensors], Results]] = {
    "gradients": gradients,
    "double_backward": double_backward,
    "forward_mode": forward_mode,
    "functional_gradients": functional_gradients,
    "vmap": vmap,
}


def attached(result: torch.Tensor) -> torch.Tensor:
    """Return the result if it is attached to autograd, else raise ``DetachedError``."""
    if not result.requires_grad:
        raise DetachedError("its result is not attached to autograd, so it has no gradients")
    return result
