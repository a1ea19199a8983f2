"""Every law finds a fault that was planted for it, and states in a few sentences what must hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults import plans
from tests.helpers.running import search, share
from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.subjects import resolve
from toeplitz_core.testing.subjects.interface import Implementation

GATE = PROFILES["gate"]


@dataclass(frozen=True, slots=True)
class Kill:
    """A law and a planted fault that it must find."""

    law: str
    fault: str
    dtype: str = "float32"
    # Whether to run the fault in a worker, because it shows only there.
    isolated: bool = False
    status: Status = Status.FAIL


# The first fault of each law is one that no earlier law finds.
KILLS = (
    Kill("forward-exact", "indexing:flips_kernel"),
    Kill("forward-bound", "arithmetic:flushes_subnormals"),
    Kill("forward-bound", "arithmetic:sums_float16_narrowly", "float16"),
    Kill("special-values", "arithmetic:takes_nan_for_zero"),
    Kill("special-values", "arithmetic:skips_zero_weights"),
    Kill("no-channels", "contracts:drops_the_bias_without_channels"),
    Kill("gradients-exact", "gradients:doubles_weight_gradient_alone"),
    Kill("gradients-exact", "gradients:leaves_out_last_row_of_input_gradient"),
    Kill("gradients-exact", "gradients:forgets_the_gradient_of_the_bias"),
    Kill("gradients-exact", "gradients:halves_gradients_of_a_second_pass"),
    Kill("gradients-exact", "gradients:reads_repeated_gradients_as_rows"),
    Kill("gradients-exact", "gradients:attaches_every_result"),
    Kill("gradients-exact", "gradients:keeps_gradients_in_its_weight"),
    Kill("gradients-exact", "training:adds_one_where_autograd_records"),
    Kill("gradients-exact", "training:clears_its_bias_in_a_backward_pass"),
    Kill("gradients-exact", "training:returns_gradients_in_one_buffer"),
    Kill("gradients-exact", "training:detaches_pointwise"),
    Kill("gradients-exact", "training:detaches_half_precision", "float16"),
    Kill("gradients-exact", "training:fails_backward_with_long_strides"),
    Kill("gradients-exact", "training:fails_backward_with_a_bias"),
    Kill("gradients-exact", "training:adds_one_where_nothing_is_recorded"),
    Kill("gradients-exact", "training:detaches_what_another_layer_gave"),
    Kill("gradients-exact", "training:keeps_its_operands_in_one_buffer"),
    Kill("gradients-exact", "training:keeps_its_operands_as_they_will_be"),
    Kill("gradients-exact", "training:packs_its_weight_once_for_the_backward_pass"),
    Kill("gradients-exact", "training:records_results_in_one_buffer"),
    Kill("gradients-exact", "gradients:returns_one_gradient_too_few"),
    Kill("gradients-exact", "gradients:has_no_room_for_gradients"),
    Kill("gradients-bound", "gradients:rounds_gradients_to_fixed_point"),
    Kill("gradients-bound", "gradients:rounds_gradients_to_bfloat16"),
    Kill("double-backward", "gradients:conjugates_nothing", "complex64"),
    Kill("double-backward", "gradients:forgets_how_gradients_depend"),
    Kill("double-backward", "training:doubles_second_derivatives_of_the_weight_alone"),
    Kill("forward-mode", "gradients:carries_input_alone_forward"),
    Kill("forward-mode", "training:doubles_what_it_carries_forward"),
    Kill("forward-mode", "training:doubles_the_direction_of_the_weight_alone"),
    Kill("functional-gradients", "gradients:is_constant_in_weight_within_torch_func"),
    Kill("vmap", "gradients:doubles_mapped_results"),
    Kill("vmap", "gradients:doubles_mapped_weights"),
    Kill("vmap", "training:maps_the_first_axis"),
    Kill("vmap", "training:maps_the_first_bias"),
    Kill("adjoint", "gradients:leaves_out_last_row_of_input_gradient"),
    Kill("transposed", "gradients:turns_transposed_kernel"),
    Kill("additive-in-input", "plans:forgets_the_bias_of_sparse_images"),
    Kill("additive-in-input", "arithmetic:saturates_its_input"),
    Kill("additive-in-weight", "plans:keeps_results_by_input"),
    Kill("additive-in-weight", "arithmetic:saturates_its_weight"),
    Kill("homogeneous", "plans:keeps_results_without_their_scale"),
    Kill("shift-equivariant", "plans:keeps_the_size_of_the_image"),
    Kill("batch-independent", "plans:keeps_the_size_of_the_batch"),
    Kill("output-channels", "plans:packs_weights_of_the_same_sum_once"),
    Kill("input-channels", "plans:packs_filters_of_the_same_sums_once"),
    Kill("groups", "plans:keeps_the_groups"),
    Kill("dilation", "plans:keeps_the_dilation"),
    Kill("stride", "plans:keeps_the_stride"),
    Kill("padding", "plans:keeps_the_padding"),
    Kill("channels-add-up", "plans:keeps_the_channels"),
    Kill("pointwise", "plans:keeps_the_width_of_pointwise"),
    Kill("delta-kernel", "plans:copies_the_wrong_tap_of_a_selecting_kernel"),
    Kill("composition", "plans:takes_its_last_result_for_a_scratch_pad"),
    Kill("contract", "contracts:keeps_a_packed_weight_on_its_tensor"),
    Kill("contract", "memory:writes_its_input"),
    Kill("contract", "contracts:writes_beside_its_weight"),
    Kill("contract", "contracts:returns_its_bias"),
    Kill("contract", "contracts:returns_a_reused_buffer"),
    Kill("contract", "contracts:returns_two_buffers_in_turn"),
    Kill("contract", "contracts:returns_eight_buffers_in_turn"),
    Kill("contract", "contracts:returns_its_image"),
    Kill("contract", "contracts:returns_its_bias_for_no_weight"),
    Kill("contract", "contracts:returns_the_same_result_again"),
    Kill("contract", "contracts:returns_the_head_of_a_workspace"),
    Kill("contract", "training:wants_gradients_in_its_weight"),
    Kill("gradients-exact", "training:leaves_gradients_switched_off"),
    Kill("contract", "contracts:claims_to_be_repeatable"),
    Kill("contract", "contracts:adds_one_when_called_again"),
    Kill("contract", "contracts:promises_channels_last"),
    Kill("stale-memory", "contracts:takes_large_memory_for_zero", isolated=True),
    Kill("stale-memory", "contracts:adds_to_what_memory_held", isolated=True),
    Kill("stale-memory", "gradients:adds_gradients_to_what_memory_held", isolated=True),
    Kill("in-bounds", "bounds:reads_behind_its_weight", isolated=True),
    Kill("in-bounds", "bounds:reads_before_its_input", isolated=True),
    Kill("in-bounds", "bounds:writes_behind_its_bias", isolated=True),
    Kill("in-bounds", "bounds:reads_behind_the_incoming_gradient", isolated=True),
    Kill("in-bounds", "bounds:reads_behind_its_array", isolated=True),
    Kill("strides", "plans:keeps_the_strides_of_the_input"),
    Kill("strides", "memory:ignores_strides_of_bias"),
    Kill("matrix", "plans:keeps_results_by_weight"),
    Kill("errors", "arguments:cuts_a_long_bias"),
    Kill("errors", "arguments:crops_by_negative_padding"),
    Kill("errors", "arguments:spreads_a_bias_of_one"),
    Kill("errors", "arguments:truncates_a_float_stride"),
    Kill("errors", "arguments:refuses_a_list"),
    Kill("errors", "arguments:refuses_an_integer_of_numpy"),
    Kill("errors", "arguments:clears_the_weight_of_what_it_refuses"),
    Kill("errors", "arguments:clears_the_weight_of_what_it_refuses", isolated=True),
    Kill("errors", "arguments:exits_for_an_empty_kernel"),
    Kill("errors", "arguments:aborts_without_dilation", isolated=True, status=Status.CRASH),
)


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> None:
    """Clear the caches of the faults, so that no test depends on another."""
    plans.forget()


# Within so many gates, each with its own seed, a law finds its fault.
GATES = 16


@pytest.fixture(scope="module")
def isolation() -> Iterator[Sandbox]:
    """Processes for the faults that show only in a worker."""
    with Sandbox() as processes:
        yield processes


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: f"{kill.law}-{kill.fault.partition(':')[2]}")
def test_the_law_finds_its_fault(kill: Kill, isolation: Sandbox):
    """A law finds its fault with a few times the cases that a gate gives it, and the shrunk case fails again.

    Most are found at once. A law of relations has only eight cases per dtype, and other laws find its fault too.
    """
    law, path = LAWS[kill.law], f"tests.faults.{kill.fault}"
    subject: Implementation = IsolatedSubject(isolation, path) if kill.isolated else resolve(path)
    searches = itertools.product(range(GATES), dict.fromkeys((kill.dtype, *law.dtypes)))
    results = (search(law, subject, dtype=dtype, examples=share(law), seed=seed) for seed, dtype in searches)
    result = next((found for found in results if found.status.is_failure), None)
    assert result is not None, f"missed by {GATES} gates"
    assert result.status is kill.status
    assert result.failure is not None
    case = parse_line(str(result.failure.case))
    assert any(law(subject, case).status is kill.status for _ in range(4)), case


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_the_first_to_find_its_fault(name: str, isolation: Sandbox):
    """Every law has a planted fault that passes all earlier laws, with a quarter of the gate's cases."""
    kill = next((kill for kill in KILLS if kill.law == name), None)
    assert kill is not None, f"no fault is planted for {name}: write one in tests/faults, and a line of KILLS"
    path = f"tests.faults.{kill.fault}"
    subject: Implementation = IsolatedSubject(isolation, path) if kill.isolated else resolve(path)
    for law in itertools.takewhile(lambda law: law.name != name, LAWS.values()):
        if kill.dtype in law.dtypes and law.procedure in subject.claims.procedures:
            result = search(law, subject, dtype=kill.dtype, examples=share(law, GATE.examples // 4))
            assert not result.status.is_failure, f"{law.name} finds it: {result.failure}"


@pytest.mark.parametrize(
    "line",
    [
        "input=1x1x1x1 weight=3x1x1x1 stride=2x1 padding=1x0 bias dtype=float16 seed=216",
        "input=1x1x4x1 weight=1x1x1x1 stride=1x2 padding=0x1 dilation=1x2 bias dtype=bfloat16 seed=24",
    ],
)
def test_a_law_sums_only_what_the_case_does(line: str):
    """No law multiplies a tap by a pixel that no window reads, because the product may be too large."""
    for law in LAWS.values():
        if law.recipes == ("integers",) and law.procedure == "forward":
            verdict = law(resolve("toeplitz"), Case.parse(line))
            assert not verdict.status.is_failure, f"{law.name}: {verdict.message}"


def test_a_law_of_inputs_without_channels_says_nothing_of_others():
    """The law no-channels proves nothing on a case with input channels."""
    line = "input=1x{0}x3x3 weight=2x{0}x1x1 bias"
    statuses = [LAWS["no-channels"](resolve("toeplitz"), Case.parse(line.format(count))).status for count in (0, 1)]
    assert statuses == [Status.PASS, Status.MISTRUSTED]


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_stated_in_a_few_sentences(name: str):
    """A law has a name in words with hyphens, and a statement of one to three sentences."""
    law = LAWS[name]
    assert law.name == name
    assert name.replace("-", "").isalpha()
    assert name.islower()
    assert law.statement.endswith(".")
    assert law.statement.count(". ") <= 2
