"""Measure every way of inversion on faces that training never saw; prints tables and writes JSON.

    python benchmarks/inversion.py [RUN FACES64] [--parts steps target edits table noise speed]
                                   [--images 500] [--few 64]

RUN is the model in the package by default, and images are drawn faces that it has not seen, with edits of "glasses".
FACES64 is a folder with images.zip and labels.csv (columns file, split, Male); images are of the split "test", with
edits of "Male". Parts:
steps   exact inversion alone, at several numbers of steps, on --few images: to choose the default by
table   each mode at 10, 16, 20 and 50 steps, on --few images: error, network calls, and how normal x_T is
target  the default settings on --images: the share of images with MSE <= 1e-8 in at most 80 calls, and the others
speed   seconds to MSE 6.07e-5 (the paper's best) against the official 100 + 100 calls, alternating
noise   x_T ~ N(0, I) -> image -> x_T: how far what comes back is from what went in, on --few
edits   z_sem moved along the direction of the label, and half way between two images, with x_T from each mode in few
        steps: how far these pictures are from those made with exact codes of 100 steps, on --few

Images are in [0, 1] for MSE and SSIM. Parts that are not run keep their earlier results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import conditions
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from diffae.config import Sampling
from diffae.data.build import build_pack
from diffae.data.images import to_tensor, to_unit
from diffae.data.labels import LabelTable
from diffae.diffusion import sampling as trajectories
from diffae.diffusion import solvers
from diffae.diffusion.interpolation import lerp, slerp
from diffae.diffusion.timesteps import levels_of
from diffae.evaluation.tasks.out_of_distribution import noise_scores
from diffae.evaluation.tasks.reconstruction import reconstruction_quality
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder
from diffae.pretrained import pretrained_path
from sketchfaces import sketch_faces

STEPS = (10, 16, 20, 50)
CHOICE = (8, 10, 12, 16, 20, 24)
"""Numbers of steps to choose the default from."""
PAPER_BEST = 6.07e-5
TARGET_MSE, TARGET_CALLS = 1e-8, 80
LABELLED = 2000

Row = dict[str, Any]


def modes(steps: int) -> dict[str, Sampling]:
    """Every way of inversion at a number of steps."""
    return {
        "official": Sampling.official(steps),
        "explicit": Sampling(steps, inversion="explicit"),
        "exact": Sampling(steps),
        "BDIA": Sampling(steps, inversion="bdia"),
    }


def calls_of(code: Code, sampling: Sampling) -> Tensor:
    """Network calls of encoding and decoding, for each image; BDIA decodes in one less than its steps."""
    assert code.calls is not None
    return code.calls.double() + sampling.steps - int(sampling.inversion == "bdia")


def normality(x_T: Tensor) -> dict[str, float]:
    """How normal stochastic codes are: moments over all values; the rest as means over images."""
    x = x_T.double()
    code = Code(None, x_T)
    scores = noise_scores(code)
    return {
        "mean": x.mean().item(),
        "variance": x.var().item(),
        "excess kurtosis": (((x - x.mean()) / x.std()) ** 4).mean().item() - 3,
        "autocorrelation": float(scores["x_T correlated"].mean()),
        "KS distance": float(scores["x_T not normal"].mean()),
    }


def reconstruct(model: DiffusionAutoencoder, x_0: Tensor, sampling: Sampling) -> tuple[Row, Tensor, Tensor]:
    """The row of a mode; MSE and calls of each image."""
    code = model.encode(x_0, sampling)
    assert code.x_T is not None
    quality = reconstruction_quality(to_unit(x_0), to_unit(model.decode(code, sampling=sampling)))
    mse, calls = quality.mse.double(), calls_of(code, sampling)
    row = {"calls": calls.mean().item(), "mse": mse.mean().item(), "worst mse": mse.max().item()}
    return row | {"ssim": quality.ssim.mean().item()} | normality(code.x_T), mse, calls


def table_part(model: DiffusionAutoencoder, x_0: Tensor, show: Console) -> dict[str, Any]:
    """Each mode at each number of steps, with true N(0, I) of the same size for comparison."""
    rows: list[Row] = []
    for steps in STEPS:
        for name, sampling in modes(steps).items():
            rows.append({"mode": name, "steps": steps} | reconstruct(model, x_0, sampling)[0])
            show.print(rows[-1])
    drawn = normality(torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)))
    shown = Table(*rows[0], title=f"{len(x_0)} images; of N(0, I) itself: {drawn}")
    for row in rows:
        shown.add_row(*(value if isinstance(value, str) else f"{value:.3g}" for value in row.values()))
    show.print(shown)
    return {"images": len(x_0), "rows": rows, "drawn": drawn}


def steps_part(model: DiffusionAutoencoder, x_0: Tensor, show: Console) -> dict[str, Any]:
    """Exact inversion at several numbers of steps."""
    rows: list[Row] = []
    for steps in CHOICE:
        row, mse, calls = reconstruct(model, x_0, Sampling(steps))
        reached = (mse <= TARGET_MSE).double().mean().item()
        rows.append({"steps": steps, "most calls": calls.max().item(), "reached": reached} | row)
        show.print(rows[-1])
    return {"images": len(x_0), "rows": rows}


def target_part(model: DiffusionAutoencoder, x_0: Tensor, show: Console) -> dict[str, Any]:
    """Exact inversion by the default settings, image by image."""
    row, mse, calls = reconstruct(model, x_0, Sampling())
    reached = (mse <= TARGET_MSE) & (calls <= TARGET_CALLS)
    missed = [{"image": int(i), "mse": mse[i].item(), "calls": int(calls[i])} for i in (~reached).nonzero()[:, 0]]
    share = reached.double().mean().item()
    what = f"exact, {Sampling().steps} steps: {share:.1%} of {len(x_0)} images reach MSE {TARGET_MSE:g}"
    show.print(f"{what} in {TARGET_CALLS} calls", row, missed)
    return {
        "images": len(x_0),
        "steps": Sampling().steps,
        "share": share,
        "most calls": calls.max().item(),
        "missed": missed,
    } | row


def speed_part(model: DiffusionAutoencoder, x_0: Tensor, show: Console) -> dict[str, Any]:
    """Seconds of encoding and decoding, official in 100 + 100 calls and ours in as few as reach the paper's best."""
    ours = {
        "exact, 10 steps": Sampling(10, tolerance=2e-3),
        "BDIA, 10 steps": Sampling(10, inversion="bdia"),
        "explicit, 50 steps": Sampling(50, inversion="explicit"),
    }
    settings = {"official, 100 steps": Sampling.official(100), **ours}
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    mse: dict[str, float] = {}
    for _ in range(3):
        for name, sampling in settings.items():
            start = time.perf_counter()
            back = model.decode(model.encode(x_0, sampling), sampling=sampling)
            seconds[name].append(time.perf_counter() - start)
            mse[name] = reconstruction_quality(to_unit(x_0), to_unit(back)).mse.mean().item()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    fastest = min((name for name in ours if mse[name] <= PAPER_BEST), key=medians.__getitem__, default=None)
    ratio = medians[fastest] / medians["official, 100 steps"] if fastest else None
    found = {"images": len(x_0), "mse": mse, "seconds": seconds, "fastest": fastest, "of official": ratio}
    show.print(found)
    return found


def _step_below(model: DiffusionAutoencoder, code: Code, sampling: Sampling) -> Tensor:
    """The second state of a BDIA code that is drawn: one DDIM step below the first."""
    s, t = levels_of(sampling.steps, sampling.spacing, len(model.alpha_bar) - 1)[-2:]
    assert code.x_T is not None
    eps_hat = model.predict_noise(code.x_T, t, code.z_sem)
    return solvers.step(code.x_T, eps_hat, model.alpha_bar[t], model.alpha_bar[s], clip=False)


@torch.no_grad()
def noise_part(model: DiffusionAutoencoder, x_0: Tensor, show: Console) -> list[Row]:
    """x_T drawn, decoded and encoded again, with z_sem kept as it was: root mean square of the difference."""
    rows = []
    z_sem = model.encode_semantic(x_0)
    drawn = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))

    def predict(x: Tensor, t: int, rows: Tensor) -> Tensor:
        return model.predict_noise(x, t, z_sem[rows])

    for steps in (10, 20, 50):
        for name, sampling in modes(steps).items():
            code = Code(z_sem, drawn)
            if name == "BDIA":
                code = dataclasses.replace(code, x_below=_step_below(model, code, sampling))
            found = trajectories.encode(predict, model.decode(code, sampling=sampling), model.alpha_bar, sampling)
            rows.append({"mode": name, "steps": steps, "rms": (found.x_T - drawn).square().mean().sqrt().item()})
            show.print(rows[-1])
    return rows


def _half_way(a: Code, b: Code) -> Code:
    """The code in the middle between two: on the line of z_sem, on the arc of the states."""
    assert a.z_sem is not None
    assert b.z_sem is not None
    half = torch.tensor([0.5])
    start, end = (torch.cat([x for x in (code.x_T, code.x_below) if x is not None], dim=1) for code in (a, b))
    states = slerp(start, end, half).chunk(1 if a.x_below is None else 2, dim=1)
    return Code(lerp(a.z_sem, b.z_sem, half), states[0], x_below=states[1] if len(states) > 1 else None)


def edits_part(model: DiffusionAutoencoder, x_0: Tensor, male: np.ndarray, x_male: Tensor, show: Console) -> list[Row]:
    """Edits and interpolations in few steps, against the same with exact codes of 100."""
    z = model.encode_semantic(x_male)
    mean, std = z.mean(0), z.std(0)
    classifier = LogisticRegression(C=0.01, max_iter=2000).fit(((z - mean) / std).numpy(), male)
    direction = torch.as_tensor(classifier.coef_[0], dtype=torch.float32)
    shift = 0.3 * math.sqrt(len(mean)) * direction / direction.norm() * std

    def pictures(sampling: Sampling) -> dict[str, Tensor]:
        code = model.encode(x_0, sampling)
        assert code.z_sem is not None
        assert code.x_T is not None
        between = Code.join([_half_way(code[i], code[i - 1]) for i in range(len(code))])
        return {
            "edit": to_unit(model.decode(dataclasses.replace(code, z_sem=code.z_sem + shift), sampling=sampling)),
            "interpolation": to_unit(model.decode(between, sampling=sampling)),
        }

    wanted = pictures(Sampling(100))
    rows = []
    for steps in (5, 10, 16, 20):
        for name, sampling in modes(steps).items():
            row: Row = {"mode": name, "steps": steps}
            for what, got in pictures(sampling).items():
                quality = reconstruction_quality(wanted[what], got)
                row |= {f"{what} mse": quality.mse.mean().item(), f"{what} ssim": quality.ssim.mean().item()}
            rows.append(row)
            show.print(row)
    return rows


@dataclasses.dataclass(frozen=True)
class Images:
    """Unseen images, and those that the direction of the edits is fitted on, with their labels."""

    unseen: Callable[[int], Tensor]
    labelled: Callable[[], tuple[np.ndarray, Tensor]]


def faces(folder: Path, packs: Path, size: int) -> Images:
    """Those of FACES64."""
    pack = build_pack(folder / "images.zip", packs, size=size)
    labels = LabelTable.read(folder / "labels.csv")
    values = labels.align(pack.names)
    split, classes = values[:, labels.columns.index("split")], labels.classes["split"]
    test, train = (np.flatnonzero(split == classes.index(name)) for name in ("test", "train"))

    def labelled() -> tuple[np.ndarray, Tensor]:
        male = values[train[:LABELLED], labels.columns.index("Male")].astype(int)
        return male, to_tensor(pack.fetch(train[:LABELLED]))

    return Images(lambda count: to_tensor(pack.fetch(test[:count])), labelled)


def drawn(size: int) -> Images:
    """Drawn faces of a seed that training never saw."""

    def labelled() -> tuple[np.ndarray, Tensor]:
        found = sketch_faces(LABELLED, size, seed=0)
        return found.labels["glasses"].astype(int), to_tensor(found.images)

    return Images(lambda count: to_tensor(sketch_faces(count, size, seed=1).images), labelled)


def main() -> None:
    """Measure the parts asked for, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=pretrained_path())
    parser.add_argument("faces", type=Path, nargs="?")
    parts = {
        "steps": steps_part,
        "target": target_part,
        "edits": edits_part,
        "table": table_part,
        "noise": noise_part,
        "speed": speed_part,
    }
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    show = Console(width=200)
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    size = model.image_shape[1]
    images = faces(arguments.faces, arguments.run.parent / "packs", size) if arguments.faces else drawn(size)
    found: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    for part in arguments.parts:
        x_0 = images.unseen(arguments.images if part == "target" else arguments.few)
        result = edits_part(model, x_0, *images.labelled(), show) if part == "edits" else parts[part](model, x_0, show)
        found[part] = {"conditions": conditions(arguments.threads) | {"model": model.fingerprint()}, "result": result}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
