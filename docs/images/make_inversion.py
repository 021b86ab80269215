"""Draw the pictures of docs/inversion.md: python make_inversion.py

inversion.png plots benchmarks/inversion.json: error against network calls, and how normal x_T is. inversion-edits.png
shows drawn faces edited by the model in the package, with x_T by each inversion.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.linear_model import LogisticRegression

from diffae.config import Sampling
from diffae.data.images import to_tensor
from diffae.model import DiffusionAutoencoder
from diffae.plotting import save_sheet, sheet, tiles_of
from diffae.pretrained import pretrained_path
from sketchfaces import sketch_faces

HERE = Path(__file__).parent
COLOURS = {"official": "#888888", "explicit": "#d95f02", "exact": "#1b6fb3", "BDIA": "#1b9e77"}
SHOWN, FITTED, LABEL, STRENGTH = 6, 1000, "glasses", 0.3


def plot(found: dict, path: Path) -> None:
    """Three panels: error against calls; variance, and excess kurtosis of x_T against steps."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    rows, drawn = found["table"]["result"]["rows"], found["table"]["result"]["drawn"]
    for mode, colour in COLOURS.items():
        of_mode = [row for row in rows if row["mode"] == mode]
        steps, calls = ([row[name] for row in of_mode] for name in ("steps", "calls"))
        axes[0].plot(calls, [row["mse"] for row in of_mode], "o-", color=colour, label=mode)
        for ax, name in zip(axes[1:], ("variance", "excess kurtosis"), strict=True):
            ax.plot(steps, [row[name] for row in of_mode], "o-", color=colour, label=mode)
    axes[0].axhline(6.07e-5, color="black", linewidth=0.8, linestyle=":")
    axes[0].annotate("the paper's best", (20, 6.07e-5), ha="left", va="top", fontsize=8)
    axes[0].set(xscale="log", yscale="log", xlabel="network calls, both ways", ylabel="MSE, images in [0, 1]")
    axes[0].set_xticks([20, 50, 100, 200], ["20", "50", "100", "200"])
    axes[0].set_xticks([], minor=True)
    for ax, name in zip(axes[1:], ("variance", "excess kurtosis"), strict=True):
        ax.axhline(drawn[name], color="black", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel="steps", ylabel=f"{name} of x_T")
        ax.set_xticks([10, 16, 20, 50], ["10", "16", "20", "50"])
        ax.minorticks_off()
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_edits(path: Path) -> None:
    """The same edit of unseen drawn faces, with x_T in 10 steps by each inversion, and exactly in 100."""
    model = DiffusionAutoencoder.from_pretrained(pretrained_path(), "cpu")
    faces = sketch_faces(FITTED, 32, seed=3)
    z_sem = model.encode_semantic(to_tensor(faces.images))
    mean, std = z_sem.mean(0), z_sem.std(0)
    fitted = LogisticRegression(C=0.01, max_iter=2000).fit(((z_sem - mean) / std).numpy(), faces.labels[LABEL])
    direction = torch.as_tensor(fitted.coef_[0], dtype=torch.float32)
    shift = STRENGTH * len(direction) ** 0.5 * direction / direction.norm() * std
    x_0 = to_tensor(sketch_faces(SHOWN, 32, seed=7).images)
    rows = [tiles_of(x_0, "input")]
    for caption, sampling in {
        "exact, 100 steps": Sampling(100),
        "exact, 10 steps": Sampling(10),
        "BDIA, 10 steps": Sampling(10, inversion="bdia"),
        "explicit, 10 steps": Sampling(10, inversion="explicit"),
        "official, 10 steps": Sampling.official(10),
    }.items():
        code = model.encode(x_0, sampling)
        assert code.z_sem is not None
        edited = dataclasses.replace(code, z_sem=code.z_sem + shift)
        rows.append(tiles_of(model.decode(edited, sampling=sampling), caption))
    save_sheet(path, sheet(rows))


if __name__ == "__main__":
    plot(json.loads((HERE.parents[1] / "benchmarks" / "inversion.json").read_text()), HERE / "inversion.png")
    draw_edits(HERE / "inversion-edits.png")
