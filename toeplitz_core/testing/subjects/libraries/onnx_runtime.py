"""ONNX Runtime on the CPU: each case builds and runs a model with one Conv node."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.arrays import to_numpy, to_tensor
from toeplitz_core.testing.subjects.interface import Claims, Subject
from toeplitz_core.testing.subjects.placement import placed

if TYPE_CHECKING:
    import torch

    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands

PACKAGES = ("onnxruntime", "onnx")
# The newest definition of Conv, which added bfloat16, and the file format version that came with it.
OPSET, IR_VERSION = 22, 10
_ERRORS_ONLY = 3


class OnnxRuntimeSubject(Subject):
    """ONNX Runtime's Conv on one thread, with the default optimisations.

    Conv supports unequal padding on the two sides, so ``"same"`` is passed as numbers. It does not support unbatched
    input, which is passed as a batch of one.

    Parameters
    ----------
    name : str
    constant : bool
        Whether weight and bias are constants of the model, as in real models, so that they are packed, or laid out for
        the blocked kernels, when the model is loaded. Otherwise they are inputs like the image.
    """

    # The dtypes of the definition for which the CPU execution provider has a kernel.
    claims = Claims(devices=("cpu",), dtypes=("float32", "float16"))

    def __init__(self, name: str, *, constant: bool) -> None:
        self.name = name
        self.constant = constant
        self._onnx = importlib.import_module("onnx")
        self._runtime = importlib.import_module("onnxruntime")

    def supports(self, case: Case) -> bool:
        if case.geometry.rank > 3:
            raise NotImplementedError(f"ONNX Runtime takes 1 to 3 axes, not {case.geometry.rank}")
        return True

    def arithmetic(self, case: Case) -> Arithmetic:
        # On x86, Conv of float16 is Conv of float32 between two Casts, which the graph transformer InsertCast adds. The
        # result with its bias is rounded once. float32 is summed in float32 (by sgemm or the blocked kernels).
        return strictest(case)

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        x, weight, bias = (None if t is None else to_numpy(t) for t in placed(case, operands))
        assert x is not None
        x = x if case.batch is not None else x[None]
        session = self._session(case, x, {"weight": weight, "bias": bias})
        given = {"x": x, "weight": weight, "bias": bias}
        y = session.run(None, {i.name: given[i.name] for i in session.get_inputs()})[0]
        return to_tensor(y if case.batch is not None else y[0])

    def _session(self, case: Case, x: np.ndarray[Any, Any], parameters: dict[str, Any]) -> Any:
        """Build and load a model with one node."""
        helper, geometry = self._onnx.helper, case.geometry
        given = {name: values for name, values in parameters.items() if values is not None}
        node = helper.make_node(
            "Conv",
            ["x", *given],
            ["y"],
            kernel_shape=geometry.kernel_size,
            strides=geometry.stride,
            pads=[side[end] for end in (0, 1) for side in geometry.pads],
            dilations=geometry.dilation,
            group=geometry.groups,
        )
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        inputs = {"x": x} if self.constant else {"x": x, **given}
        graph = helper.make_graph(
            [node],
            "convolution",
            [helper.make_tensor_value_info(name, kind, values.shape) for name, values in inputs.items()],
            [helper.make_tensor_value_info("y", kind, None)],
            [self._onnx.numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in given.items() if self.constant],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        options = self._runtime.SessionOptions()
        # Thousands of sessions, each with a thread pool, would cost more than the convolutions.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        return self._runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnxruntime() -> Subject:
    """ONNX Runtime with weight and bias as constants of the model."""
    return OnnxRuntimeSubject("onnxruntime", constant=True)


def onnxruntime_dynamic() -> Subject:
    """ONNX Runtime with weight and bias as inputs of the model."""
    return OnnxRuntimeSubject("onnxruntime-dynamic", constant=False)
