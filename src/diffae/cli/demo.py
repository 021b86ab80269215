"""`diffae demo`: the main job on drawn faces, from a trained model and before the user's eyes, as one HTML page."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffae.cli.attributes import described
from diffae.cli.common import describe_validation, error_console, last_validation, make_folder, say, seeded
from diffae.cli.explore import path_tiles, variation_tiles, vary

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffae.config import ModelConfig, TrainingConfig
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Report, Tile

FACES = 8  # that the trained model is measured on
SHOWN = 8
FACE_EDITED = 3
EDITS = {
    "age": (10, 25, 40, 55, 70, 85),
    "glasses": (-0.4, -0.2, 0, 0.2, 0.4, 0.6),
    "hat": (-0.4, -0.2, 0, 0.2, 0.4, 0.6),
}
EXAMPLES, WANTED = 120, "glasses"  # faces that show what new ones shall have
SEED = 20_220_615  # of the faces drawn here; the trained model's data come from other seeds
TRAIN_FACES = 1_000
TRAIN_STEPS = 200
BATCH = 8
RUN = "short-run"


@dataclass(frozen=True)
class Demo:
    """See it work: drawn faces through a trained model, and a short training, as a page with pictures."""

    out: Path
    """Folder for report.html, the faces and the run."""

    def run(self) -> int:
        """Write the page; 130 when its training is interrupted."""
        from diffae.model import DiffusionAutoencoder
        from diffae.plotting import Report
        from diffae.pretrained import pretrained_path
        from sketchfaces.faces import sketch_faces

        folder = pretrained_path()
        model = DiffusionAutoencoder.from_pretrained(folder)
        make_folder(self.out)
        size = model.image_shape[1]
        faces = sketch_faces(FACES, size, SEED).images
        page = Report("A diffusion autoencoder at work", _lead(model, folder))
        _announce(f"taking {FACES} faces apart and putting them back together")
        _reconstruction(page, model, faces)
        _announce("morphing, varying, denoising")
        _exploration(page, model, faces)
        _editing(page, model, faces)
        _sampling(page, model)
        if not _training(page, self.out, size, faces):
            say("Interrupted before the report was written.")
            return 130
        _what_next(page, self.out, folder)
        page.write(self.out / "report.html")
        say(f"The report is in {self.out / 'report.html'}: open it in a browser.")
        return 0


def _announce(what: str) -> None:
    error_console().print(f"[bold]diffae demo[/] · {what} ...", highlight=False)


def _lead(model: DiffusionAutoencoder, folder: Path) -> str:
    seen = last_validation(folder).get("images")
    million = sum(parameter.numel() for parameter in model.networks.parameters()) / 1e6
    network = model.config.network
    after = f", after {seen:,} images of training" if seen else ""
    return (
        f"Faces drawn by a program, {network.image_size} × {network.image_size} pixels, which the model has never "
        f"seen. It has {million:.2f} million parameters{after}. It describes a face by z_sem, {network.z_sem_channels} "
        "numbers, and what these leave out by x_T, something like noise, of the image's own shape."
    )


def _reconstruction(page: Report, model: DiffusionAutoencoder, faces: np.ndarray) -> None:
    """Each way of coding an image, in pictures and numbers."""
    from diffae.config import Sampling
    from diffae.data.images import as_batch
    from diffae.plotting import tiles_of

    x = as_batch(faces, model.image_shape[1], model.image_shape[0])
    ways = {
        "exact inversion": Sampling(),
        "explicit inversion": Sampling(inversion="explicit"),
        "as published": Sampling.official(),
    }
    rows, lines = [tiles_of(x[:SHOWN])], []
    for name, sampling in ways.items():
        code = model.encode(x, sampling)
        calls = "" if code.calls is None else f"{code.calls.float().mean():.0f}"
        _add(rows, lines, (f"z_sem and x_T, {name}", calls), x, model.decode(code, sampling=sampling).cpu())
    from_z = model.decode(z_sem=model.encode_semantic(x), generator=seeded(0)).cpu()
    _add(rows, lines, ("z_sem, x_T random", "0"), x, from_z)
    page.section("Apart, and back together")
    page.text(
        "An image becomes z_sem, by one call of the encoder, and x_T, by running the decoder backwards; from both, the "
        "decoder returns to the image. Exact inversion solves each of the decoder's steps. Explicit inversion, the "
        "usual reverse DDIM, takes the network's answer from the wrong end of each step; the published code clips "
        "and shifts its levels besides. The last row keeps z_sem and draws x_T at random."
    )
    page.tiles(rows, labels=("input", *ways, "z_sem alone"), side=92)
    page.table(("decoded from", "PSNR dB", "SSIM", "MSE", "network calls to find x_T"), lines)
    page.text(f"Means over {FACES} faces, images in [0, 1], {Sampling().steps} steps to decode; PSNR below each face.")


def _add(rows: list[list[Tile]], lines: list[tuple[str, ...]], about: tuple[str, str], x: Tensor, y: Tensor) -> None:
    """A row of pictures and a line of the table; `about` is its name, and the network calls that x_T took."""
    from diffae.data.images import to_unit
    from diffae.evaluation.reconstruction import reconstruction_quality
    from diffae.plotting import tiles_of

    quality = reconstruction_quality(to_unit(x), to_unit(y))
    rows.append(tiles_of(y[:SHOWN], [f"{psnr:.1f} dB" for psnr in quality.psnr[:SHOWN].tolist()]))
    mean = (quality.psnr.mean().item(), quality.ssim.mean().item(), quality.mse.mean().item())
    lines.append((about[0], f"{mean[0]:.1f}", f"{mean[1]:.4f}", f"{mean[2]:.1e}", about[1]))


def _exploration(page: Report, model: DiffusionAutoencoder, faces: np.ndarray) -> None:
    """Interpolation, variations and the path of denoising."""
    from diffae.config import Sampling
    from diffae.data.images import as_batch
    from diffae.plotting import in_rows, tiles_of

    sampling = Sampling()
    x = as_batch(faces[:4], model.image_shape[1], model.image_shape[0])
    code = model.encode(x, sampling)
    page.section("From one face to another")
    page.text("A straight line between two z_sem, a great arc between two x_T, decoded on the way.")
    for a, b in ((0, 1), (2, 3)):
        frames = model.interpolate(code[a : a + 1], code[b : b + 1], 9)
        page.tiles([tiles_of(frames, [f"{index / 8:.2f}" for index in range(9)])], side=104)
    page.animation(tiles_of(model.interpolate(code[:1], code[1:2], 17)))
    page.section("What z_sem leaves open")
    page.text("The z_sem of the first face with eight different x_T. What stays is in z_sem; what changes is in x_T.")
    page.tiles(in_rows(variation_tiles(x[:1], vary(model, x[:1], 8, 0, sampling)), 6), side=110)
    page.section("What the decoder believes on the way")
    page.text("Decoding runs down from x_T, at the highest level t; at each the network has a guess of the image.")
    page.tiles(in_rows(path_tiles(model, x[1:2], code[1:2], sampling), 6), side=110)


def _editing(page: Report, model: DiffusionAutoencoder, faces: np.ndarray) -> None:
    """Strips along attributes, where the model has some."""
    from diffae.cli.edit import moved_codes, open_attributes
    from diffae.data.images import as_batch
    from diffae.latent.attributes import ATTRIBUTES
    from diffae.latent.directions import with_z_sem
    from diffae.plotting import tiles_of

    if model.folder is None or not (model.folder / ATTRIBUTES).is_file():
        return
    _announce("editing")
    attributes = open_attributes(model)
    x = as_batch(faces[FACE_EDITED : FACE_EDITED + 1], model.image_shape[1], model.image_shape[0])
    code = model.encode(x)
    assert code.z_sem is not None
    rows, labels = [], []
    for name, strengths in EDITS.items():
        if name in attributes.names_:
            z_sem = moved_codes(attributes, code.z_sem, [{name: strength} for strength in strengths])
            frames = model.decode(with_z_sem(code, z_sem))
            rows.append(tiles_of(frames, [f"{strength:g}" for strength in strengths]))
            labels.append(name)
    if not rows:
        return
    page.section("Editing")
    page.text(
        "Labels of some faces make directions of z_sem. Here one face goes along some of them, its x_T kept: age in "
        "years, the others by steps that are parts of the usual length of z_sem. `diffae edit` does this to a picture."
    )
    page.tiles(rows, labels=labels, side=104)
    lines = [(about.name, f"{about.n:,}", *described(about.score)) for about in attributes.attributes_.values()]
    page.table(("attribute", "labelled faces", "read from z_sem of others", "95 %"), lines)


def _sampling(page: Report, model: DiffusionAutoencoder) -> None:
    """New faces from the prior, and new faces like some examples."""
    import numpy as np

    from diffae.config import Sampling
    from diffae.data.images import to_tensor
    from diffae.latent.few_shot import LatentClassifier, sample_like
    from diffae.plotting import in_rows, tiles_of
    from sketchfaces.faces import sketch_faces

    prior = model.prior
    if prior is None:
        return
    _announce("making new faces")
    page.section("New faces")
    page.text("z_sem drawn from the latent prior, a small diffusion model of its own; x_T drawn at random.")
    fast = Sampling.fast(10)
    page.tiles(in_rows(tiles_of(model.sample(3 * SHOWN, sampling=fast, generator=seeded(0))), SHOWN), side=92)
    drawn = sketch_faces(EXAMPLES, model.image_shape[1], SEED + 2)
    has = drawn.labels[WANTED] == 1
    z_sem = [model.encode_semantic(to_tensor(drawn.images[rows])) for rows in (has, ~has)]
    classifier = LatentClassifier(prior.to(model.device)).fit(*z_sem)
    found = sample_like(prior, classifier, 2 * SHOWN, generator=seeded(1))
    page.text(
        f"{np.count_nonzero(has)} faces with {WANTED} and {np.count_nonzero(~has)} without make a linear classifier of "
        f"z_sem. Of {found.drawn:,} z_sem drawn, those are kept that it takes for faces with {WANTED}: "
        f"{found.kept / found.drawn:.0%}."
    )
    x = model.decode(z_sem=found.z_sem, sampling=fast, generator=seeded(1))
    page.tiles(in_rows(tiles_of(x), SHOWN), side=92)


def _training(page: Report, out: Path, size: int, faces: np.ndarray) -> bool:
    """Train from scratch on freshly drawn faces; False when interrupted."""
    from diffae.data.build import build_pack
    from diffae.training.autoencoder import train_autoencoder
    from sketchfaces.faces import write_sketch_faces

    _announce(f"drawing {TRAIN_FACES:,} faces for training")
    write_sketch_faces(out / "faces", TRAIN_FACES, size, SEED + 1)
    model, training = settings(size)
    _announce(f"training a small model on them, {TRAIN_STEPS} steps of {BATCH} images")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        pack = build_pack(out / "faces", cache, size=size)
        if not train_autoencoder(pack, out / RUN, model, training, overwrite=True):
            return False
    _show_training(page, out / RUN, model, faces, time.monotonic() - begin)
    return True


def settings(size: int) -> tuple[ModelConfig, TrainingConfig]:
    """A model of half of small32's width, and a training that shows something within a minute."""
    from diffae.presets import presets

    model, training = presets()["small32"]
    network = replace(model.network, image_size=size, model_channels=16, z_sem_channels=64)
    images = TRAIN_STEPS * BATCH
    short = replace(
        training,
        images=images, batch_size=BATCH, learning_rate=2e-3, warmup_images=images // 20, val_images=32,
        validate_every=images, save_every=images,
    )  # fmt: skip
    return replace(model, network=network), short


def _show_training(page: Report, run: Path, config: ModelConfig, faces: np.ndarray, seconds: float) -> None:
    """The curve of the loss, and faces before and after."""
    import torch

    from diffae.config import Sampling
    from diffae.data.images import as_batch
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import tiles_of
    from diffae.plotting_figures import curves

    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [(entry["images"], entry["loss"]) for entry in entries if "loss" in entry]
    seen, values = zip(*losses, strict=True)
    torch.manual_seed(0)  # the weights that the training began with
    before, after = DiffusionAutoencoder(config), DiffusionAutoencoder.from_pretrained(run)
    x = as_batch(faces[:SHOWN], config.network.image_size, config.network.image_channels)
    explicit = Sampling(inversion="explicit")
    back = after.decode(after.encode(x, explicit), sampling=explicit)
    page.section("Training, from nothing")
    page.text(
        f"{seen[-1]:,} images seen in {seconds:.0f} seconds, {TRAIN_FACES:,} different ones. "
        f"Validation: {describe_validation(last_validation(run))}. "
        "The model above was trained by the same program, larger and longer."
    )
    page.picture(curves({"loss": (seen, values)}, "images seen", "training loss"), width=720)
    from_z = [model.decode(z_sem=model.encode_semantic(x), generator=seeded(0)) for model in (before, after)]
    labels = ("input", "before:\nz_sem alone", "after:\nz_sem alone", "after:\nz_sem and x_T,\nexplicit inversion")
    page.tiles([tiles_of(images) for images in (x, *from_z, back)], labels=labels, side=92)


def _what_next(page: Report, out: Path, folder: Path) -> None:
    a, b = (str(out / "faces" / f"sketch_{index:06d}.png") for index in (0, 1))
    here = Path.cwd()
    model = str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
    lines = [
        ("diffae", "interpolate", model, a, b, "--out", str(out / "morph.gif")),
        ("diffae", "vary", model, a, "--out", str(out / "vary.png")),
        ("diffae", "sample", model, "--out", str(out / "samples.png")),
        ("diffae", "train", "PHOTOS", "--out", "runs/photos", "--preset", "small32"),
    ]
    page.section("Now you")
    page.text("The faces drawn for training are beside this page. Your own pictures go in place of `PHOTOS`.")
    page.commands(*(shlex.join(line) for line in lines))
