"""The core computes convolutions without any library's convolution: checked in its source and while it runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's custom
from torch.utils._python_dispatch import TorchDispatchMode

import toeplitz_core as tc
from toeplitz_core import products

# All modules of the package itself, except the entry point of the command line, which computes nothing.
CORE = [path for path in sorted(Path(tc.__file__).parent.glob("*.py")) if path.name != "__main__.py"]
ALLOWED = {"numpy", "torch", "toeplitz_core", *sys.stdlib_module_names}
# Names that libraries use for convolutions, their windows and their padding.
FORBIDDEN_NAME = re.compile(
    r"(\w*_)?conv([123]d|_\w+|olve\w*|olution\w*|)|\w*(convolution|correlate|unfold|fft)\w*|im2col|col2im|fold"
    r"|(\w*_)?pad([123]d|_nd|_sequence|)|(\w*Conv|\w*Pad)([123]d|Transpose[123]d)|Unfold|Fold|sliding_window_view|as_strided"
)
# Ways to reach a function without writing its name.
FORBIDDEN_INDIRECTION = {"eval", "exec", "__import__", "importlib"}


def violations(source: str) -> Iterator[str]:
    """Forbidden imports, and names of other packages' convolutions, in Python source."""
    tree = ast.parse(source)
    in_functions = {
        node for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            own.add(node.name)
        if isinstance(node, ast.Import):
            modules, names = [alias.name for alias in node.names], []
        elif isinstance(node, ast.ImportFrom):
            modules, names = [node.module or ""], [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            package = module.partition(".")[0]
            if not (package in ALLOWED or (package == "scipy" and node in in_functions)):
                yield f"import of {module}"
            if package == "toeplitz_core":
                own.update(names)
                if module.startswith("toeplitz_core.testing"):
                    yield f"import of {module}"
            else:
                yield from (f"import of {name}" for name in names if FORBIDDEN_NAME.fullmatch(name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and FORBIDDEN_NAME.fullmatch(node.attr):
            yield f"attribute {node.attr}"
        if isinstance(node, ast.Name) and FORBIDDEN_NAME.fullmatch(node.id) and node.id not in own:
            yield f"name {node.id}"
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_INDIRECTION:
            yield f"indirection {node.id}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            name = node.args[1]
            if not (isinstance(name, ast.Constant) and not FORBIDDEN_NAME.fullmatch(str(name.value))):
                yield f"getattr {ast.unparse(name)}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_source_of_the_core_uses_no_convolution_of_others(path: Path) -> None:
    """Each module imports only the standard library, NumPy and torch, and uses none of their convolutions."""
    # The package looks up a public name in one of its own modules, when it is first used.
    allowed = {"getattr name", "indirection importlib"} if path.name == "__init__.py" else set()
    assert set(violations(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize(
    "source",
    [
        "import hypothesis",
        "import scipy.sparse",
        "from scipy import sparse",
        "from toeplitz_core.testing.strategies.cases import geometries",
        "import toeplitz_core.testing",
        "def f(): import pytest",
        "torch.nn.functional.conv2d(x, w)",
        "torch.conv1d(x, w)",
        "torch.nn.Conv2d(1, 1, 1)",
        "torch.convolution(x, w)",
        "torch.conv_transpose2d(x, w)",
        "torch.ops.aten.im2col(x)",
        "x.unfold(0, 2, 1)",
        "F.fold(x)",
        "F.pad(x, (1, 1))",
        "np.pad(x, 1)",
        "np.convolve(x, w)",
        "np.lib.stride_tricks.sliding_window_view(x, 2)",
        "scipy.signal.correlate2d(x, w)",
        "torch.fft.rfft2(x)",
        "torch.constant_pad_nd(x, (1, 1))",
        "torch.nn.ZeroPad2d(1)",
        "from torch.nn.functional import conv2d",
        "from torch.nn.functional import pad as p",
        "getattr(torch, 'con' + 'v2d')",
        "getattr(torch, 'conv2d')",
        "eval('torch.conv2d')",
        "conv2d(x, w)",
    ],
)
def test_the_search_of_the_source_finds_what_it_is_for(source: str) -> None:
    """The search finds each way to use another package's convolution, unfolding or padding."""
    assert list(violations(source))


class ForbiddenOperatorError(Exception):
    """A convolution, an unfolding, a padding or a Fourier transform of torch was called."""


class WithoutConvolution(TorchDispatchMode):
    """A mode in which torch's operators that convolve, unfold or pad raise; it counts the other operators."""

    FORBIDDEN = re.compile(r"conv|im2col|col2im|unfold|(^|_)fold|(^|_)pad(_|$)|pad[123]d|fft|as_strided")

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator unless it is forbidden."""
        name = func.overloadpacket.__name__
        if self.FORBIDDEN.search(name):
            raise ForbiddenOperatorError(name)
        self.operators += 1
        return func(*args, **kwargs or {})


def leaf(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A tensor of ones that needs a gradient."""
    return torch.ones(shape, dtype=dtype, requires_grad=True)


FULL: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}


def matrix(layout: torch.layout) -> torch.Tensor:
    """The matrix in a layout; some of its rows are built too."""
    whole = tc.toeplitz_matrix(leaf(4, 2, 3, 2), (5, 6), layout=layout, **FULL)
    tc.toeplitz_matrix(leaf(4, 2, 3, 2), (5, 6), layout=layout, rows=[1, -1], **FULL)
    return whole


def weight_operator(dtype: torch.dtype = torch.float64) -> tc.ToeplitzOperator:
    """The operator of a weight that needs a gradient."""
    return tc.ToeplitzOperator(leaf(4, 2, 3, 2, dtype=dtype), (5, 6), **FULL)


def multiply() -> torch.Tensor:
    """The product of the notebook's functions."""
    W = tc.toeplitz_multichannel(leaf(4, 2, 3, 2), (4, 5, 6), 1, 2, dilation=2)
    return tc.toeplitz_multiply(W, leaf(4), leaf(2, 4, 56), (2, 3))


CALLS: dict[str, Callable[[], torch.Tensor]] = {
    "dense": lambda: matrix(torch.strided),
    "csr": lambda: matrix(torch.sparse_csr).detach().values(),
    "coo": lambda: matrix(torch.sparse_coo).detach().values(),
    "values": lambda: tc.toeplitz_values(leaf(4, 2, 3, 2), (5, 6), **FULL),
    "A @ x": lambda: weight_operator() @ leaf(120, 2),
    "A.mT @ y": lambda: weight_operator().mT @ leaf(weight_operator().shape[0]),
    "A.mH @ y": lambda: weight_operator(torch.complex128).mH @ leaf(weight_operator().shape[0], dtype=torch.complex128),
    "A.to_dense": lambda: weight_operator().to_dense(),
    "A.to_sparse_csr": lambda: weight_operator().to_sparse_csr().detach().values(),
    "conv2d": lambda: tc.conv2d(leaf(2, 4, 5, 6), leaf(4, 2, 3, 2), leaf(4), **FULL),
    "conv2d, same": lambda: tc.conv2d(leaf(4, 5, 6), leaf(4, 4, 2, 2), leaf(4), padding="same"),
    "conv2d, half": lambda: tc.conv2d(
        leaf(2, 4, 5, 6, dtype=torch.float16), leaf(4, 2, 3, 2, dtype=torch.float16), **FULL
    ),
    "einsum by products": lambda: products.einsum_by_products(
        "gock,ngcpk->ngop", leaf(1, 2, 3, 4), leaf(2, 1, 3, 5, 4)
    ),
    "perfilter": lambda: tc.toeplitz_perfilter(leaf(3), 7, 3, 2),
    "perchannel": lambda: tc.toeplitz_perchannel(leaf(3, 2), (5, 6), 2, dilation=2),
    "multichannel and multiply": multiply,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_core_runs_without_any_convolution_of_torch(call: Callable[[], torch.Tensor]) -> None:
    """Every public function runs forward and twice backward while torch's convolutions, unfoldings and pads raise."""
    with WithoutConvolution() as mode:
        result = call()
        if result.requires_grad:
            leaves = [node.variable for node in graph(result) if hasattr(node, "variable")]
            assert leaves
            gradients = torch.autograd.grad((result * result).sum().abs(), leaves, create_graph=True)
            sum((g * g).sum().abs() for g in gradients).backward()  # type: ignore[union-attr]  # there is a leaf
    assert mode.operators > 0


def graph(tensor: torch.Tensor) -> set[Any]:
    """All nodes of a tensor's autograd graph."""
    found: set[Any] = set()
    waiting = [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(following for following, _ in node.next_functions)
    return found


X, K = torch.ones(1, 2, 5, 5), torch.ones(2, 2, 3, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.conv2d(X, K),
        lambda: F.conv2d(X, K, padding="same"),
        lambda: F.conv2d(X.half(), K.half(), groups=1, dilation=2),
        lambda: F.conv1d(X[:, :, 0], K[..., 0]),
        lambda: F.conv3d(X[None], K[None, :1]),
        lambda: F.conv_transpose2d(X, K),
        lambda: torch.mkldnn_convolution(X, K, None, (0, 0), (1, 1), (1, 1), 1),
        lambda: F.unfold(X, 3),
        lambda: F.fold(torch.ones(1, 8, 4), 3, 2),
        lambda: X.unfold(2, 3, 1),
        lambda: F.pad(X, (1, 1)),
        lambda: F.pad(X, (1, 1, 1, 1), mode="reflect"),
        lambda: F.pad(X, (1, 1, 1, 1), mode="replicate"),
        lambda: torch.fft.rfft2(X),
        lambda: X.as_strided((3, 3), (1, 1)),
    ],
)
def test_the_run_time_guard_rejects_what_it_is_for(call: Callable[[], torch.Tensor]) -> None:
    """Convolutions, unfoldings and paddings of torch raise under the guard, and run without it."""
    call()
    with pytest.raises(ForbiddenOperatorError), WithoutConvolution():
        call()


def test_the_run_time_guard_rejects_gradients_of_convolutions() -> None:
    """The backward pass of an earlier convolution raises under the guard."""
    y = F.conv2d(X, K.clone().requires_grad_()).sum()
    with pytest.raises(ForbiddenOperatorError), WithoutConvolution():
        y.backward()


def test_importing_the_core_imports_no_test_tool() -> None:
    """``import toeplitz_core`` loads neither scipy, Hypothesis nor pytest, nor ``toeplitz_core.testing``."""
    code = (
        "import sys, torch; before = set(sys.modules); import toeplitz_core; print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = {"hypothesis", "pytest", "_pytest", "scipy"}
    assert [m for m in loaded if m.partition(".")[0] in forbidden or m.startswith("toeplitz_core.testing")] == []
