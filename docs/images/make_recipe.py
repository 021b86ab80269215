"""Draw the learning curves of docs/experiments/recipe.md from benchmarks/recipe.json: python make_recipe.py"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
COLOURS = {
    "paper": "#d95f02",
    "default, upsampling first, no orientations": "#bcd9ee",
    "default, upsampling first": "#6aaed6",
    "default": "#0b4f8a",
}
LINES = {"0": "o-", "1": "s--", "2": "^:"}  # of each seed
PANELS = {"val_loss": "loss of Eq. 6, unseen images", "val_mse_semantic": "MSE from z_sem, random x_T"}


def main() -> None:
    """Plot each validation against images seen, and against seconds of training."""
    found = json.loads((HERE.parents[1] / "benchmarks" / "recipe.json").read_text())
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained", sharey="row")
    for name, rows in found["validations"].items():
        recipe, seed = name.split(", seed ")
        line = LINES[seed]
        images = [row["images"] / 1000 for row in rows]
        minutes = [1000 * count * found["seconds_per_image"][recipe] / 60 for count in images]
        for pair, measure in zip(axes, PANELS, strict=True):
            for ax, x in zip(pair, (images, minutes), strict=True):
                if measure in rows[0]:  # no MSE of a network that predicts eps: see benchmarks/recipe.py
                    ax.plot(x, [row[measure] for row in rows], line, color=COLOURS[recipe], label=name)
    for pair, (measure, label) in zip(axes, PANELS.items(), strict=True):
        pair[0].set(ylabel=label, xlabel="images seen, in thousands")
        pair[1].set(xlabel=f"minutes of training, {found['conditions']['threads']} CPU core")
        for ax in pair:
            ax.set_yscale("log" if measure == "val_mse_semantic" else "linear")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), fontsize="small", loc="outside lower center", ncols=3)
    figure.savefig(HERE / "recipe.png", dpi=100)


if __name__ == "__main__":
    main()
