"""How a script calls a library that is a registered subject: by the library's own interface alone."""

from __future__ import annotations

from collections.abc import Mapping

# The zeros around the image. If "same" needs an odd number of them, one more is behind the image, as in torch.
_PADS = '''
def pads(weight, padding, dilation):
    """The number of zeros before and behind the image along each axis."""
    if not isinstance(padding, str):
        return [(p, p) for p in padding]
    totals = [(padding == "same") * d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
    return [(total // 2, total - total // 2) for total in totals]
'''

_JAX = '''
def array(t):
    """A tensor as an array of JAX. NumPy alone has no bfloat16."""
    values = t.float() if t.dtype == torch.bfloat16 else t
    return jax.numpy.asarray(values.numpy(), dtype=str(t.dtype).removeprefix("torch."))


def conv2d(x, weight, bias, stride, padding, dilation, groups):
    """JAX's convolution, with tensors as operands and result."""
    def convolution(x, weight, bias=None):
        y = jax.lax.conv_general_dilated(
            x, weight, stride, pads(weight_tensor, padding, dilation), rhs_dilation=dilation,
            dimension_numbers=NAMES, feature_group_count=groups,
        )
        return y if bias is None else y + bias.reshape(COLUMN)

    weight_tensor, image = weight, x if x.ndim == 4 else x[None]
    with jax.enable_x64(True):
        operands = [array(image.permute(IMAGE)), array(weight.permute(WEIGHT))]
        y = jax.jit(convolution)(*operands, *([] if bias is None else [array(bias)]))
        y = y.astype("float32") if x.dtype == torch.bfloat16 else y
    y = torch.from_numpy(numpy.array(y)).to(x.dtype).permute(BACK)
    return y if x.ndim == 4 else y[0]
'''

_ORDERS = {
    "jax": """
NAMES, COLUMN = ("NCHW", "OIHW", "NCHW"), (-1, 1, 1)
IMAGE, WEIGHT, BACK = (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)
""",
    "jax-nhwc": """
NAMES, COLUMN = ("NHWC", "HWIO", "NHWC"), (-1,)
IMAGE, WEIGHT, BACK = (0, 2, 3, 1), (2, 3, 1, 0), (0, 3, 1, 2)
""",
}

_ONNX = '''
def conv2d(x, weight, bias, stride, padding, dilation, groups):
    """A model with one Conv, run by ONNX Runtime on one thread, with tensors as operands and result."""
    helper, image = onnx.helper, (x if x.ndim == 4 else x[None]).contiguous().numpy()
    given = {{name: t.contiguous().numpy() for name, t in (("weight", weight), ("bias", bias)) if t is not None}}
    node = helper.make_node(
        "Conv", ["x", *given], ["y"], kernel_shape=weight.shape[2:], strides=stride, dilations=dilation, group=groups,
        pads=[side[end] for end in (0, 1) for side in pads(weight, padding, dilation)],
    )
    kind = helper.np_dtype_to_tensor_dtype(image.dtype)
    constants = given if {constant} else {{}}
    inputs = {{"x": image, **{{name: values for name, values in given.items() if name not in constants}}}}
    graph = helper.make_graph(
        [node], "convolution",
        [helper.make_tensor_value_info(name, kind, values.shape) for name, values in inputs.items()],
        [helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y = torch.from_numpy(session.run(None, inputs)[0])
    return y if x.ndim == 4 else y[0]
'''

_JAX_IMPORTS = ("import torch", "import numpy", "import jax")
_ONNX_IMPORTS = ("import torch", "import onnx", "import onnxruntime")

# The imports and the definition of ``conv2d``, by the name of the subject.
CALLS: Mapping[str, tuple[tuple[str, ...], str]] = {
    **{name: (_JAX_IMPORTS, f"{order}{_PADS}{_JAX}") for name, order in _ORDERS.items()},
    "onnxruntime": (_ONNX_IMPORTS, _PADS + _ONNX.format(constant=True)),
    "onnxruntime-dynamic": (_ONNX_IMPORTS, _PADS + _ONNX.format(constant=False)),
}
