"""Train the model that comes with the package, and measure it; writes quality.json into its folder.

    python benchmarks/pretrained.py train [--run runs/sketch32]         # 20 minutes on one core; may be interrupted
    python benchmarks/pretrained.py ddim [--run runs/sketch32-ddim]      # the paper's baseline, for `diffae evaluate`
    python benchmarks/pretrained.py prior [--run runs/sketch32]          # some minutes; writes RUN/prior.safetensors
    python benchmarks/pretrained.py student [--run runs/sketch32]        # 10 minutes; writes RUN/student.safetensors
    python benchmarks/pretrained.py attributes MODEL                     # writes MODEL/attributes.safetensors
    python benchmarks/pretrained.py slim MODEL                           # halves the size of MODEL/prior.safetensors
    python benchmarks/pretrained.py measure MODEL [--json quality.json]

Training: `small32` on 40,000 faces of `sketch_faces` (seed 0). Measured on faces of seed 1, which
training never saw: reconstruction of 64, linear readings of every label fitted on 4,000 and tested on 1,000.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from measuring import auroc, conditions, print_reconstruction, r2, reconstruction, train_small_prior
from rich.console import Console
from rich.table import Table

from diffae import checkpoint
from diffae.cli.distill import Distill
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.latent.attributes import AttributeDirections
from diffae.latent.prior import PRIOR
from diffae.model import DiffusionAutoencoder
from diffae.model.student import STUDENT
from diffae.presets import presets
from diffae.training.autoencoder import train_autoencoder
from sketchfaces import BINARY, LABELS, draw_chunks, sketch_faces

FACES, IMAGES = 40_000, 80_000
PRIOR_WIDTH = 192  # keeps all that is in the package below 10 MB
LABELLED = 10_000
STUDENT_FACES, STUDENT_IMAGES, TRAJECTORIES = 1280, 16_000, 1000
FITTED, TESTED, RECONSTRUCTED = 4000, 1000, 64


def drawn(run: Path) -> Pack:
    """The faces of the training, drawn once."""
    path = run.with_name("sketch32.pack")
    chunks = (chunk.images for chunk in draw_chunks(FACES, 32, seed=0))
    return Pack.open(path) if path.exists() else Pack.from_arrays(chunks, path)


def train(run: Path, *, ddim: bool = False) -> None:
    """Draw the faces once, then train or resume by Eq. 6 alone (docs/recipe.md says why); a DDIM has no z_sem."""
    pack = drawn(run)
    model, training = presets()["small32"]
    if ddim:
        model = dataclasses.replace(model, encoder=None)
    training = dataclasses.replace(training, images=IMAGES, validate_every=50_000, auxiliary_losses=())
    data = {"source": f"sketch_faces({FACES}, size=32, seed=0)"}
    train_autoencoder(pack, run, model, training, resume=run.exists(), data=data)


def distil(run: Path) -> None:
    """The student of the decoder, on the first faces of the training."""
    path = run.with_name("sketch32-student.pack")
    if not path.exists():
        Pack.from_arrays((chunk.images for chunk in draw_chunks(STUDENT_FACES, 32, seed=0)), path)
    resume = (run / STUDENT).exists()
    Distill(str(run), path, STUDENT_IMAGES, TRAJECTORIES, resume=resume).run()


def slim(folder: Path) -> None:
    """Keep the prior in bfloat16, for a small package; says by how much its samples move."""
    before = prior_samples(folder)
    tensors, texts = checkpoint.read_tensors(folder / PRIOR)
    halved = {name: value if name in ("mean", "std") else value.bfloat16() for name, value in tensors.items()}
    checkpoint.write_tensors(folder / PRIOR, halved, texts)
    moved = (prior_samples(folder) - before).square().mean().sqrt() / before.std()
    Console().print(f"samples of the prior moved by {moved:.1%} of their standard deviation")


def prior_samples(folder: Path) -> torch.Tensor:
    """z_sem from a fixed seed."""
    prior = DiffusionAutoencoder.from_pretrained(folder, "cpu").require_prior()
    return prior.sample(256, generator=torch.Generator().manual_seed(0))


def fit_attributes(folder: Path) -> None:
    """Directions of every label, from the first faces of the training."""
    model = DiffusionAutoencoder.from_pretrained(folder, "cpu")
    faces = sketch_faces(LABELLED, 32, seed=0)
    z_sem = model.encode_semantic(to_tensor(faces.images))
    AttributeDirections().fit(z_sem, faces.labels).save(folder, model.fingerprint())


def read_labels(model: DiffusionAutoencoder) -> dict[str, dict[str, float]]:
    """How well a linear reading of z_sem and of the pixels tells each label: AUROC of binary ones, R2 of numbers."""
    faces = sketch_faces(FITTED + TESTED, 32, seed=1)
    x = to_tensor(faces.images)
    inputs = {"z_sem": model.encode_semantic(x).numpy(), "16x16 pixels": _small(x)}
    found: dict[str, dict[str, float]] = {}
    for label in LABELS:
        measure, y = (auroc if label in BINARY else r2), faces.labels[label]
        found[label] = {what: measure(a[:FITTED], y[:FITTED], a[FITTED:], y[FITTED:]) for what, a in inputs.items()}
    return found


def _small(x: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.avg_pool2d(x, 2).flatten(1).numpy()


def measure(folder: Path, output: Path) -> None:
    """Measure a model folder; print, and write JSON."""
    model = DiffusionAutoencoder.from_pretrained(folder, "cpu")
    rows = reconstruction(model, to_tensor(sketch_faces(RECONSTRUCTED, 32, seed=1).images))
    labels = read_labels(model)
    print_reconstruction(rows)
    table = Table("label", "measure", "z_sem", "16x16 pixels")
    for label, values in labels.items():
        kind = "AUROC" if label in BINARY else "R2"
        table.add_row(label, kind, f"{values['z_sem']:.3f}", f"{values['16x16 pixels']:.3f}")
    Console().print(table)
    results = {
        "conditions": conditions(torch.get_num_threads()),
        "reconstruction": [dataclasses.asdict(row) for row in rows],
        "labels": labels,
    }
    output.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    """Train or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("train").add_argument("--run", type=Path, default=Path("runs/sketch32"))
    verbs.add_parser("ddim").add_argument("--run", type=Path, default=Path("runs/sketch32-ddim"))
    verbs.add_parser("prior").add_argument("--run", type=Path, default=Path("runs/sketch32"))
    verbs.add_parser("student").add_argument("--run", type=Path, default=Path("runs/sketch32"))
    for verb in ("attributes", "slim"):
        verbs.add_parser(verb).add_argument("model", type=Path)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("model", type=Path)
    measuring.add_argument("--json", type=Path, default=Path("quality.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.verb == "train":
        train(arguments.run)
    elif arguments.verb == "ddim":
        train(arguments.run, ddim=True)
    elif arguments.verb == "prior":
        train_small_prior(arguments.run, drawn(arguments.run), hidden_channels=PRIOR_WIDTH)
    elif arguments.verb == "student":
        distil(arguments.run)
    elif arguments.verb == "slim":
        slim(arguments.model)
    elif arguments.verb == "attributes":
        fit_attributes(arguments.model)
    else:
        measure(arguments.model, arguments.json)


if __name__ == "__main__":
    main()
