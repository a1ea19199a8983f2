"""The layers of published networks as cases, and a way to judge a large layer at only some outputs."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from tests.helpers.paths import DATA
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.laws.families.forward import forward_verdict
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.subjects import Subject

TABLE = DATA / "model_layers.tsv"

# Up to this many multiplications a layer is judged at every output, else at randomly drawn outputs.
WHOLE = 2**22
# The drawn outputs may read this many numbers (16 MiB as float64; the judge has several such tensors).
ROW_NUMBERS = 2**21
MAX_ROWS = 512
# Number of layers of one kind in the sample, and the most multiplications of a layer in it.
SAMPLED_PER_KIND = 5
SAMPLED_WORK = 2**29


def load_layers() -> list[Case]:
    """All rows of the table as float32 cases."""
    with TABLE.open(newline="") as table:
        return [_case(row) for row in csv.DictReader(table, delimiter="\t")]


def sample(layers: Sequence[Case]) -> list[Case]:
    """Some evenly spread layers of each kind (groups, kernel, stride, dilation, padding, size), without slow ones."""
    kinds: dict[tuple[object, ...], list[Case]] = defaultdict(list)
    for layer in layers:
        if layer.geometry.nnz <= SAMPLED_WORK:
            kinds[_kind(layer)].append(layer)
    chosen = []
    for members in kinds.values():
        step = max(1, len(members) // SAMPLED_PER_KIND)
        chosen += members[::step][:SAMPLED_PER_KIND]
    return chosen


def judge(subject: Subject, case: Case, operands: Operands) -> Verdict:
    """The verdict on a layer, at every output of a small layer and at random outputs of a large one."""
    return forward_verdict(subject, case, operands, drawn_outputs(case))


def drawn_outputs(case: Case) -> torch.Tensor | None:
    """Flat indices of the outputs to judge, including the first and the last; None for all outputs."""
    geometry = case.geometry
    if geometry.nnz <= WHOLE:
        return None
    taps = geometry.group_channels * int(np.prod(geometry.kernel_size))
    count = max(16, min(MAX_ROWS, ROW_NUMBERS // taps))
    total = int(np.prod(case.output_shape))
    words = np.asarray(np.random.PCG64(case.seed).random_raw(count), dtype=np.uint64)
    drawn = (words % np.uint64(total)).astype(np.int64)
    return torch.from_numpy(np.concatenate(([0], drawn, [total - 1])))


def _case(row: dict[str, str]) -> Case:
    words = [f"{key}={row[key]}" for key in ("input", "weight", "stride", "padding", "dilation", "groups")]
    return Case.parse(" ".join([*words, *(["bias"] if row["bias"] == "yes" else [])]))


def _kind(case: Case) -> tuple[object, ...]:
    g = case.geometry
    grouping = "one" if g.groups == 1 else "depthwise" if g.group_channels == 1 else "groups"
    kernel = "1x1" if set(g.kernel_size) == {1} else "square" if len(set(g.kernel_size)) == 1 else "flat"
    steps = (max(g.stride) > 1, max(g.dilation) > 1, g.padding == "same", any(max(p) > 0 for p in g.pads))
    return grouping, kernel, *steps, case.bias, g.nnz <= WHOLE
