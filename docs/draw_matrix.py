"""Draw docs/matrix.png: a kernel and the matrix of its convolution. Needs matplotlib.

Usage: python docs/draw_matrix.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap

import toeplitz_core as tc

KERNEL, INPUT, PADDING = (3, 3), (4, 4), 1


def main(path: Path) -> None:
    """Draw the kernel and its matrix side by side, with one colour per tap."""
    taps = KERNEL[0] * KERNEL[1]
    weight = torch.arange(1, taps + 1).view(1, 1, *KERNEL)  # the value of a tap is its number; 0 means no tap
    matrix = tc.toeplitz_matrix(weight, INPUT, padding=PADDING).numpy()
    colours = ListedColormap(["white", *mpl.colormaps["tab10"].colors[:taps]])

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 6), width_ratios=(1, 3.4), layout="constrained")
    for axes, values in ((left, weight[0, 0].numpy()), (right, matrix)):
        axes.imshow(values, cmap=colours, vmin=0, vmax=taps)
        for (row, column), value in np.ndenumerate(values):
            if value:
                axes.text(column, row, "abcdefghi"[value - 1], ha="center", va="center", color="white", weight="bold")
        axes.tick_params(length=0)
    left.set(title="kernel, 3 x 3", xticks=[], yticks=[])
    positions = [f"{h},{w}" for h in range(INPUT[0]) for w in range(INPUT[1])]
    right.set_xticks(range(len(positions)), positions, rotation=90, fontsize=8)
    right.set_yticks(range(len(positions)), positions, fontsize=8)
    right.set(title="T for a 4 x 4 input, padding 1", xlabel="input pixel h,w", ylabel="output pixel h,w")
    for edge in np.arange(-0.5, len(positions), 1):
        block = (edge + 0.5) % INPUT[1] == 0  # between the blocks of two input rows, or of two output rows
        right.axhline(edge, color="black" if block else "0.85", linewidth=1.2 if block else 0.5)
        right.axvline(edge, color="black" if block else "0.85", linewidth=1.2 if block else 0.5)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(Path(__file__).with_name("matrix.png"))
