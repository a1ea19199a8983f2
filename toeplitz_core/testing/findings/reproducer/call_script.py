"""The script of a call of the law ``errors``: it must return what the definition says, or raise an exception."""

from __future__ import annotations

import torch

from toeplitz_core.testing.case.call import NAMES, Call, TensorSpec
from toeplitz_core.testing.findings.reproducer.literals import PACKED, values
from toeplitz_core.testing.findings.reproducer.targets import Target
from toeplitz_core.testing.findings.reproducer.wrapping import assembled
from toeplitz_core.testing.laws.families.errors import definition

# A result of up to this many numbers is in the script. Of a larger one, it compares only the shape and the dtype.
_COMPARED = 2**16
_REFUSED = '''
def wrong():
    """Whether the call is accepted, or refused by an internal assertion."""
    try:
        result = invoke()
    except Exception as error:
        print(f"refused: {type(error).__name__}: {error}")
        return "INTERNAL ASSERT FAILED" in str(error)
    if MAY_BE_EMPTY and result.numel() == 0:
        return False
    print(f"accepted: {result.dtype} of shape {tuple(result.shape)}, expected an exception: {WHY}")
    return True
'''
_ACCEPTED = '''
def wrong():
    """Whether the call is refused, or its result is wrong."""
    result = invoke()
    if (tuple(result.shape), result.dtype, result.is_meta) != EXPECTED_FORM:
        print(f"{result.dtype} of shape {tuple(result.shape)} on {result.device}, expected {EXPECTED_FORM}")
        return True
    if EXPECTED is None or not result.numel():
        return False
    error = (result.cpu() - EXPECTED).abs()  # the exact results are whole numbers
    at = tuple(int(i) for i in (error == error.max()).nonzero()[0])
    print(f"result{list(at)} = {result[at].item()}, expected {EXPECTED[at].item()}")
    return not bool((error < 0.5).all())
'''


def call_script(call: Call, name: str, target: Target, *, apart: bool) -> str:
    """The script of a call.

    Parameters
    ----------
    call : Call
    name : str
        The name of the subject.
    target : Target
    apart : bool
        Whether the call may end its process, or not return.
    """
    right = definition(call)
    arguments = {each: call[each] for each in NAMES if getattr(call, each) != Call.__dataclass_fields__[each].default}
    body, said = [], []
    for number, (each, value) in enumerate(arguments.items()):
        text = _tensor(value, NAMES.index(each)) if isinstance(value, TensorSpec) else getattr(call, each)
        variable = "x" if each == "input" else each
        body.append(f"{variable} = {text}")
        said.append(variable if number < 2 else f"{each}={variable}")
    if right.accepted:
        value = right.value
        shown = value is not None and not value.is_meta and value.numel() <= _COMPARED
        form = (right.shape, right.dtype, value is not None and value.is_meta)
        body += ["", f"EXPECTED_FORM = {form}  # shape, dtype, and whether it is on meta"]
        body.append(f"EXPECTED = {values(value) if shown and isinstance(value, torch.Tensor) else None}")
        test = _ACCEPTED
    else:
        body += ["", f"WHY = {right.message!r}", f"MAY_BE_EMPTY = {right.error is MemoryError}"]
        test = _REFUSED
    calls = f"conv2d({', '.join(said)})"
    inner = (
        f"    with {', '.join(target.contexts)}:\n        return {calls}" if target.contexts else f"    return {calls}"
    )
    body += ["", "", "def invoke():", '    """The call under test."""', *inner.splitlines()]
    helpers = [PACKED] if any("packed(" in line for line in body) else []
    words = " ".join(body)
    imports = (*target.imports, *["import numpy"] * ("numpy." in words and "import numpy" not in target.imports))
    verb = "accepts" if right.accepted else "refuses"
    return assembled(
        title=f"{name}: a call that the definition {verb}",
        case=str(call),
        target=Target(target.subject, imports, target.definition, target.contexts, target.variables, target.layout),
        constants=[],
        helpers=helpers,
        body=body,
        test=test,
        apart=apart,
    )


def _tensor(spec: TensorSpec, seed: int) -> str:
    """An expression for a tensor of a call."""
    dtype = f"torch.{spec.dtype}"
    if spec.kind == "meta":
        return f"torch.empty({spec.shape}, dtype={dtype}, device='meta')"
    there = "" if spec.kind == "cpu" else f".to({spec.device!r})"
    plain = TensorSpec(spec.dtype, spec.shape).tensor(seed)
    return f"{values(plain)}{there}"
