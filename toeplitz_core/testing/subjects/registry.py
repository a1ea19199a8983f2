"""The registered implementations, and what each needs to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from toeplitz_core.operator import conv2d
from toeplitz_core.testing.subjects.interface import Environment, Subject
from toeplitz_core.testing.subjects.libraries import jax_lax, naive, numpy_windows, onnx_runtime, scipy_signal
from toeplitz_core.testing.subjects.pytorch import variants
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject
from toeplitz_core.testing.subjects.pytorch.variants import torch_subject

_PLAIN = Environment()


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered subject: how it is made, what it is, and what it needs.

    Parameters
    ----------
    make : callable
        Makes the subject and imports what it needs. The judge's own process calls it only for inline subjects.
    statement : str
        A description, for lists.
    environment : Environment
        The environment that its process must start with.
    packages : tuple of str
        Distributions that it needs in addition to the requirements of this package.
    extra : str
        The extra of this package that installs them.
    """

    make: Callable[[], Subject]
    statement: str
    environment: Environment = _PLAIN
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def absent(self) -> str:
        """The missing packages, with the command that installs them; empty if none is missing."""
        missing = [package for package in self.packages if _installed(package) is None]
        if not missing:
            return ""
        verb = "is" if len(missing) == 1 else "are"
        return f"{' and '.join(missing)} {verb} not installed: pip install 'toeplitz-core[{self.extra}]'"

    @property
    def versions(self) -> dict[str, str]:
        """The versions of those needed packages that are installed."""
        found = {package: _installed(package) for package in self.packages}
        return {package: text for package, text in found.items() if text is not None}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _isa(name: str) -> Registered:
    """Limit the instruction set that oneDNN may use, which it reads when the process starts."""
    return Registered(
        lambda: torch_subject(f"torch-{name.lower().replace('_', '-')}", devices=("cpu",)),
        f"torch, oneDNN limited to {name}",
        Environment((("ONEDNN_MAX_CPU_ISA", name),)),
    )


def _threads(count: int) -> Registered:
    return Registered(
        lambda: torch_subject(f"torch-{count}-threads", devices=("cpu",)),
        f"torch with {count} thread{'s' if count > 1 else ''}",
        Environment((("OMP_NUM_THREADS", str(count)),)),
    )


SUBJECTS: dict[str, Registered] = {
    "torch": Registered(lambda: torch_subject("torch"), "torch.nn.functional.conv2d with default settings"),
    "torch-channels-last": Registered(variants.torch_channels_last, "torch, input and weight in channels_last"),
    "torch-native": Registered(variants.torch_native, "torch, oneDNN and NNPACK switched off"),
    "torch-nnpack": Registered(variants.torch_nnpack, "torch, oneDNN off: NNPACK computes batches of 16 or more"),
    "torch-deterministic": Registered(variants.torch_deterministic, "torch, deterministic algorithms only"),
    "torch-inference": Registered(variants.torch_inference, "torch in inference mode"),
    "torch-compile": Registered(variants.torch_compile, "torch.compile, compiled once per geometry"),
    "torch-autocast": Registered(variants.TorchAutocast, "torch under autocast: float32 computed in bfloat16"),
    "torch-cuda": Registered(
        lambda: torch_subject("torch-cuda", devices=("cuda",)),
        "torch on a GPU with default settings: float32 rounded to TF32",
    ),
    "torch-cuda-fp32": Registered(variants.torch_cuda_fp32, "torch on a GPU, TF32 switched off"),
    "torch-1-threads": _threads(1),
    "torch-2-threads": _threads(2),
    "torch-sse41": _isa("SSE41"),
    "torch-avx2": _isa("AVX2"),
    "torch-avx512-core": _isa("AVX512_CORE"),
    "onnxruntime": Registered(
        onnx_runtime.onnxruntime,
        "ONNX Runtime's Conv on the CPU; weight and bias are constants of the model",
        packages=onnx_runtime.PACKAGES,
        extra="onnxruntime",
    ),
    "onnxruntime-dynamic": Registered(
        onnx_runtime.onnxruntime_dynamic,
        "ONNX Runtime's Conv on the CPU; weight and bias are inputs of the model",
        packages=onnx_runtime.PACKAGES,
        extra="onnxruntime",
    ),
    "jax": Registered(
        jax_lax.jax,
        "jax.lax.conv_general_dilated on the CPU, images NCHW, compiled once per geometry",
        jax_lax.ENVIRONMENT,
        packages=jax_lax.PACKAGES,
        extra="jax",
    ),
    "jax-nhwc": Registered(
        jax_lax.jax_nhwc,
        "jax.lax.conv_general_dilated on the CPU, images NHWC, compiled once per geometry",
        jax_lax.ENVIRONMENT,
        packages=jax_lax.PACKAGES,
        extra="jax",
    ),
    "naive": Registered(naive.naive, "loops over output pixels, adds one product at a time in index order"),
    "numpy": Registered(numpy_windows.numpy_windows, "NumPy: a view of all windows, multiplied by the weight"),
    "scipy": Registered(
        scipy_signal.scipy_signal,
        "scipy.signal.correlate2d for each pair of channels",
        packages=("scipy",),
        extra="scipy",
    ),
    "toeplitz": Registered(
        lambda: TorchSubject("toeplitz", conv2d, checks_arguments=True, memory_format=lambda _: "contiguous"),
        "this package's own conv2d",
    ),
}
