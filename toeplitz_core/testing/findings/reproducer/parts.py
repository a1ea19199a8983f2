"""The parts of a script, as text."""

from __future__ import annotations

DIFFERS = '''
def differs(name, actual, expected, bound=None, nan_too=None):
    """Whether a result is wrong: it must equal the expected one, or lie within the bound."""
    if not isinstance(actual, torch.Tensor):
        print(f"{name}: {type(actual).__name__}, expected a tensor")
        return True
    actual = actual.detach().cpu().resolve_conj()
    if tuple(actual.shape) != SHAPES[name] or actual.dtype != DTYPE:
        print(f"{name}: {actual.dtype} of shape {tuple(actual.shape)}, expected {DTYPE} of shape {SHAPES[name]}")
        return True
    if actual.is_complex():  # real and imaginary parts on a last axis
        actual = torch.view_as_real(actual)
    right = actual == expected.to(actual.dtype)
    if bound is not None:
        right = (actual == expected) | ((actual.double() - expected).abs() <= bound)
    if actual.is_floating_point():
        right |= actual.isnan() & (expected.isnan() if nan_too is None else expected.isnan() | nan_too)
    for index in (~right).nonzero().tolist()[:5]:
        at = tuple(index)
        allowed = "" if bound is None else f" within {bound.expand(right.shape)[at].item():.3g}"
        print(f"{name}{index} = {actual[at].item()}, expected {expected[at].item()}{allowed}")
    if not right.all():
        print(f"{name}: {int((~right).sum())} of {right.numel()} numbers are wrong")
    return not right.all()
'''

WIDE = '''
def wide(values):
    """A copy of the numbers in a dtype in which their sums are exact."""
    return values if values is None else values.to(torch.complex128 if values.is_complex() else SUMS, copy=True)


def size(values):
    """Magnitudes."""
    return values if values is None else wide(values).abs()
'''

# Sums by index arithmetic, one tap at a time. autograd makes the exact gradients from it.
REFERENCE = '''
def reference(x, weight, bias):
    """The convolution by index arithmetic: one product of matrices for each tap of the kernel."""
    x = x if x.ndim == 4 else x[None]
    (top, bottom), (left, right) = PADS
    (height, width), (sh, sw), (dh, dw) = OUTPUTS, STRIDE, DILATION
    image = x.new_zeros(*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right)
    image[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    result = x.new_zeros(x.shape[0], weight.shape[0], height, width)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            rows = slice(i * dh, i * dh + (height - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (width - 1) * sw + 1, sw)
            pixels = image[:, :, rows, columns].unflatten(1, (GROUPS, -1))
            taps = weight[:, :, i, j].unflatten(0, (GROUPS, -1))
            result = result + torch.einsum("ngchw,goc->ngohw", pixels, taps).flatten(1, 2)
    result = result if bias is None else result + bias[:, None, None]
    return result.reshape(SHAPES["out"])
'''

GRADIENT = '''
def gradient(name, numbers):
    """The gradient of the reference in an operand, for numbers such as magnitudes."""
    leaves = {"input": x, "weight": weight, "bias": bias}
    leaves = {key: None if t is None else numbers(t).requires_grad_() for key, t in leaves.items()}
    return torch.autograd.grad(reference(*leaves.values()), leaves[name], numbers(grad))[0]
'''

# By another process, because this one would end or wait with the call.
APART = '''
def apart(main):
    """The exit code of the test in a process of its own: 1 if that crashes or does not end."""
    process = multiprocessing.Process(target=main)
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
        print(f"the call does not return within {TIMEOUT} s")
        return 1
    if process.exitcode < 0:
        print(f"the call ends the process with signal {-process.exitcode}")
        return 1
    return process.exitcode
'''

MEMORY = '''
def fill_memory(byte):
    """Make glibc fill freed memory with a byte, and new memory with its complement."""
    ctypes.CDLL(None).mallopt(-6, byte)  # M_PERTURB
'''

GUARDED = '''
def guarded(values, behind):
    """A copy of a tensor that lies against a page of memory which may not be accessed: behind it or before it."""
    count = 1 + sum((size - 1) * stride for size, stride in zip(values.shape, values.stride()))
    page = mmap.PAGESIZE
    size = count * values.element_size()
    pages = -(-size // page)
    memory = mmap.mmap(-1, (pages + 2) * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    offset = (pages + 1) * page - size if behind else page
    inside = torch.frombuffer(memory, dtype=values.dtype, count=count, offset=offset)
    copy = inside.as_strided(values.shape, values.stride())
    copy.copy_(values)
    protect = begin + (pages + 1) * page if behind else begin
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(protect), page, 0)
    return copy
'''

FORWARD = '''
def wrong():
    """Whether the result is wrong."""
    return differs("out", call(x, weight, bias), *EXPECTED["out"])
'''

CONTRACT = '''
def wrong():
    """Whether the result is wrong, or a call changes what is not its own."""
    operands = {"input": x, "weight": weight} | ({} if bias is None else {"bias": bias})
    before = {name: values.clone() for name, values in operands.items()}
    first = call(x, weight, bias)
    found = differs("out", first, *EXPECTED["out"])
    for name, values in operands.items():
        if not torch.equal(values.nan_to_num(), before[name].nan_to_num()):
            print(f"the call changes its {name}")
            found = True
        if first.numel() and first.untyped_storage().data_ptr() == values.untyped_storage().data_ptr():
            print(f"the result lies in the memory of the {name}")
            found = True
    kept = first.clone()
    for _ in range(8):  # as many buffers may be in rotation
        call(-x, weight, bias)
    if not torch.equal(first, kept):
        print("a later call changes an earlier result")
        found = True
    return differs("out", call(x, weight, bias), *EXPECTED["out"]) or found
'''

GRADIENTS = '''
def wrong():
    """Whether the result or a gradient is wrong, for any set of operands that require gradients."""
    names = [name for name in ("input", "weight", "bias") if name in EXPECTED]
    for count in range(len(names), 0, -1):
        for chosen in itertools.combinations(names, count):
            leaves = {"input": x, "weight": weight, "bias": bias}
            leaves = {k: None if t is None else t.detach().requires_grad_(k in chosen) for k, t in leaves.items()}
            result = call(*leaves.values())
            found = differs("out", result, *EXPECTED["out"])
            gradients = torch.autograd.grad(result, [leaves[name] for name in chosen], grad)
            for name, gradient in zip(chosen, gradients):
                found |= differs(name, gradient, *EXPECTED[name])
            if found:
                print(f"where gradients are computed in {' and '.join(chosen)}")
                return True
    return False
'''

VMAP = '''
def wrong():
    """Whether vmap over the images gives a wrong result, or a wrong gradient in the weight for an image."""

    def of_image(weight, image, grad):
        return torch.func.vjp(lambda weight: call(image, weight, bias), weight)[1](grad)[0]

    result = torch.func.vmap(lambda image: call(image, weight, bias))(x)
    gradients = torch.func.vmap(of_image, in_dims=(None, 0, 0))(weight, x, grad)
    result = result.reshape(SHAPES["out"])
    found = differs("out", result, *EXPECTED["out"])
    return differs("weight of each image", gradients, *EXPECTED["weight of each image"]) or found
'''

MAIN = '''
def main():
    """Exit with 1 if the call is wrong, with 0 if it is right."""
    try:
        found = wrong()
    except NotImplementedError as error:
        print(f"cannot run: {error}")
        sys.exit(2)
    except Exception as error:
        print(f"the call raises {type(error).__name__}: {error}")
        found = True
    print("the bug is there" if found else "the call is right")
    sys.exit(1 if found else 0)
'''

MAIN_WITH_MEMORY = MAIN.replace(
    "        found = wrong()\n",
    """        found = wrong()
        for byte in (1, 170, 85) * 5:  # the result may depend on what memory held
            fill_memory(byte)
            found = found or wrong()
""",
)
