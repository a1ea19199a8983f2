"""The parts of a script that shows a wrong derivative other than a gradient of the backward pass.

The script takes the same derivatives of the call and of the reference in float64, and compares them exactly.
"""

from __future__ import annotations

# What tests need besides the reference. ```call`` is the call under test, or the reference.
_WRONG = '''
def wrong():
    """Whether a derivative is wrong."""
    right = derivatives(reference, *map(wide, (x, weight, bias, grad)))
    found = derivatives(call, x, weight, bias, grad)
    SHAPES.update({name: tuple(values.shape) for name, values in right.items()})
    exact = {name: torch.view_as_real(t) if t.is_complex() else t for name, t in right.items()}
    return any([differs(name, found[name], values) for name, values in exact.items()])
'''

_DOUBLE_BACKWARD = '''
def derivatives(call, x, weight, bias, grad):
    """The gradients of the gradients along the directions: of all of them together, and of each alone."""
    operands = {"input": x, "weight": weight} | ({} if bias is None else {"bias": bias})
    found = {}
    for chosen in (tuple(operands), *((name,) for name in operands)):
        leaves = {name: t.detach().requires_grad_(name in chosen) for name, t in operands.items()}
        g = grad.detach().requires_grad_()
        result = call(leaves["input"], leaves["weight"], leaves.get("bias"))
        first = torch.autograd.grad(result, [leaves[name] for name in chosen], g, create_graph=True)
        along = [DIRECTIONS[name].to(t.dtype) for name, t in zip(chosen, first)]
        wanted = {"grad": g} | {name: leaves[name] for name in ("input", "weight") if len(chosen) > 1}
        second = torch.autograd.grad(first, list(wanted.values()), along, allow_unused=True)
        for (name, of), values in zip(wanted.items(), second):
            found[f"{name} of {' and '.join(chosen)}"] = torch.zeros_like(of) if values is None else values
    return found
'''

_FORWARD_MODE = '''
def derivatives(call, x, weight, bias, grad):
    """The forward-mode derivatives along all directions together, and along each alone."""
    operands = {"input": x, "weight": weight} | ({} if bias is None else {"bias": bias})
    found = {}
    for chosen in (tuple(operands), *((name,) for name in operands)):
        with torch.autograd.forward_ad.dual_level():
            duals = dict(operands)
            for name in chosen:
                along = DIRECTIONS[name].to(operands[name].dtype)
                duals[name] = torch.autograd.forward_ad.make_dual(operands[name], along)
            y = call(duals["input"], duals["weight"], duals.get("bias"))
            result = torch.autograd.forward_ad.unpack_dual(y)
            found[f"result with {' and '.join(chosen)}"] = result.primal.clone()
            tangent = result.tangent
            found[f"along {' and '.join(chosen)}"] = None if tangent is None else tangent.clone()
    return found
'''

_FUNCTIONAL = '''
def derivatives(call, x, weight, bias, grad):
    """The result and the gradients by torch.func.vjp, and the gradients by torch.func.grad."""
    operands = [t for t in (x, weight, bias) if t is not None]

    def result(*operands):
        return call(*operands, *([None] if bias is None else []))

    def number(*operands):
        products = result(*operands) * grad.conj()
        return (products.real if products.is_complex() else products).sum()

    output, pull_back = torch.func.vjp(result, *operands)
    by_vjp, by_grad = pull_back(grad), torch.func.grad(number, tuple(range(len(operands))))(*operands)
    found = {"out": output}
    for name, one, other in zip(("input", "weight", "bias"), by_vjp, by_grad):
        found |= {f"{name} by vjp": one, f"{name} by grad": other}
    return found
'''

# By law, the text of ``derivatives`` and ``wrong``.
DERIVED = {
    "double-backward": _DOUBLE_BACKWARD + _WRONG,
    "forward-mode": _FORWARD_MODE + _WRONG,
    "functional-gradients": _FUNCTIONAL + _WRONG,
}
