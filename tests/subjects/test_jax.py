"""JAX as a subject: it fails only in listed ways, and computes as it declares."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

import pytest

from tests.helpers.paths import KNOWN_JAX
from tests.helpers.running import Bench
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects import SUBJECTS, environment, registry
from toeplitz_core.testing.subjects.libraries.jax_lax import JaxSubject
from toeplitz_core.testing.support.processor import has

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic

NAMES = ("jax", "jax-nhwc")
KNOWN = KnownFailures.load(KNOWN_JAX, laws=LAWS)
FORWARD = ("forward-exact", "forward-bound", "special-values")
# Cases per law and dtype: three geometries, each of which takes a tenth of a second to compile.
EXAMPLES = 18

absent = SUBJECTS["jax"].absent
needs_jax = pytest.mark.skipif(bool(absent), reason=f"not run: {absent}")


@pytest.fixture(params=[False, True], ids=NAMES)
def subject(request: pytest.FixtureRequest) -> JaxSubject:
    """Both variants in this process."""
    return JaxSubject("jax", channels_last=request.param)


@needs_jax
@pytest.mark.parametrize("name", NAMES)
def test_laws_hold(name: str):
    """JAX fails no law except in listed ways; only the rounding errors of complex numbers are not judged."""
    with Sandbox() as isolation:
        bench = Bench(
            [IsolatedSubject(isolation, name, environment(name))],
            [LAWS[name] for name in FORWARD],
            CASE_DTYPES,
            examples=EXAMPLES,
            known=KNOWN,
        )
        results = bench.run().came
    assert {(r.law, r.dtype) for r in results if r.status is Status.UNSUPPORTED} == {
        ("forward-bound", "complex128"),
        ("forward-bound", "complex64"),
    }
    broken = [r for r in results if r.status not in (Status.PASS, Status.KNOWN, Status.UNSUPPORTED)]
    lines = (f"{r.law} {r.dtype}: {r.status} {r.message} {r.failure and r.failure.case}" for r in broken)
    assert not broken, "\n".join(lines)


@needs_jax
@pytest.mark.parametrize("entry", KNOWN.entries, ids=lambda entry: entry.name)
def test_known_failure_is_still_there(entry: Entry):
    """The example of each known failure still fails as listed, for each subject that the entry names."""
    if not entry.applies:
        pytest.skip(f"{entry.name} is listed for {entry.unmet}")
    with Sandbox() as isolation:
        for name in entry.subjects:
            verdict = LAWS[entry.laws[0]](IsolatedSubject(isolation, name, environment(name)), entry.example)
            assert verdict.status == entry.status, f"stale: {name}: {verdict.status} {verdict.message}"


@needs_jax
@pytest.mark.parametrize(
    "line",
    [
        "input=2x3x9 weight=4x3x3 stride=2 padding=1 bias",
        "input=2x4x9x8 weight=6x2x3x2 stride=2x1 padding=1x2 dilation=1x2 groups=2 bias",
        "input=2x3x5x6x7 weight=4x3x3x2x1 stride=1x2x3 padding=1x2x3 bias",
        "input=3x6x5 weight=2x3x2x4 padding=same dilation=1x2 bias",
        "input=0x3x5x5 weight=2x3x3x3 bias",
        "input=1x0x5x5 weight=2x0x3x3 bias",
        "input=2x2x4x4 weight=3x2x2x2 layout=channels_last layout.bias=sliced bias",
    ],
    ids=["1-D", "2-D", "3-D", "unbatched, unequal padding", "no images", "no channels", "layouts"],
)
def test_what_its_definition_allows(line: str, subject: JaxSubject):
    """JAX computes 1 to 3 axes, every padding, groups, empty batches and every layout."""
    verdict = LAWS["forward-exact"](subject, Case.parse(line))
    assert verdict.status in (Status.PASS, Status.MISTRUSTED), verdict.message


@needs_jax
def test_four_axes_are_unsupported(subject: JaxSubject):
    """Four axes are refused, with a message that names the number."""
    case = Case.parse("input=1x1x1x1x1x1 weight=1x1x1x1x1x1")
    assert "not 4" in subject.run(case, draw(case)).message


class Strict(JaxSubject):
    """JAX, judged as if it declared no arithmetic."""

    def arithmetic(self, case: Case) -> Arithmetic:
        return strictest(case)


@needs_jax
@pytest.mark.parametrize(
    "line",
    [
        *(
            f"input=1x1x4x4 weight=1x1x1x1 dtype={dtype} data=subnormal law=forward-bound"
            for dtype in ("float64", "float32", "bfloat16")
        ),
        *(
            f"input=1x1x4x4 weight=1x1x1x1 bias dtype={dtype} data=accumulator law=forward-exact"
            for dtype in ("float16", "bfloat16")
        ),
    ],
)
def test_what_is_declared_is_needed(line: str):
    """Each declared deviation from the strictest arithmetic is needed: without it a law fails."""
    case = Case.parse(line)
    if case.dtype == "float16" and has("avx512_fp16"):
        pytest.skip("XLA adds the bias before it rounds on a processor that adds float16")
    law = LAWS[str(case.law)]
    assert law(Strict("jax"), case).status is Status.FAIL
    assert law(JaxSubject("jax"), case).status is not Status.FAIL


@needs_jax
def test_float16_keeps_subnormals(subject: JaxSubject):
    """float16 is summed in float32, so its subnormals are not flushed, and none are excused."""
    case = Case.parse("input=2x3x4x4 weight=2x3x2x2 bias dtype=float16 data=subnormal")
    assert not subject.arithmetic(case).flushes
    assert LAWS["forward-bound"](subject, case).status is Status.PASS


@needs_jax
def test_error_of_complex_numbers_is_not_judged(subject: JaxSubject):
    """Real-valued recipes of complex dtypes are refused, with a reason."""
    case = Case.parse("input=1x1x2x2 weight=1x1x1x1 dtype=complex64 data=normal")
    outcome = subject.run(case, draw(case))
    assert outcome.status == "unsupported"
    assert "three real products" in outcome.message


@needs_jax
def test_one_compilation_a_geometry(subject: JaxSubject):
    """Other data and strides reuse the compiled convolution; another dtype compiles again."""
    case = Case.parse("input=2x2x4x4 weight=2x2x3x3")
    for same in (case, case.replace(seed=1), case.replace(data="probe", layouts=(("input", "channels_last"),))):
        subject.forward(same, draw(same))
    assert subject.compilations == 1
    other = case.replace(dtype="float64")
    subject.forward(other, draw(other))
    assert subject.compilations == 2


@needs_jax
def test_other_code_keeps_its_precision(subject: JaxSubject):
    """64 bits are enabled only during the call."""
    import jax

    case = Case.parse("input=1x1x2x2 weight=1x1x1x1 dtype=float64")
    assert LAWS["forward-exact"](subject, case).status is Status.PASS
    assert jax.numpy.zeros(1).dtype == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_missing_package_is_said(name: str, monkeypatch: pytest.MonkeyPatch):
    """Without its packages, the subject gives the command that installs them."""

    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(registry, "version", version)
    assert SUBJECTS[name].absent == "jax and jaxlib are not installed: pip install 'toeplitz-core[jax]'"
