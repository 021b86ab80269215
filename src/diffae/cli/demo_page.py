"""The page of `diffae demo`: what a trained model does with drawn faces, and a short training."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffae import pretrained
from diffae.cli import common, models
from diffae.cli.attributes import described
from diffae.cli.edit import moved_codes, open_attributes
from diffae.cli.explore import path_tiles, variation_tiles
from diffae.cli.terminal import note, say
from diffae.config import ModelConfig, Sampling, UNetConfig, UNetEncoderConfig
from diffae.data.build import build_pack
from diffae.data.images import to_tensor, to_unit
from diffae.evaluation.tasks.reconstruction import reconstruction_quality
from diffae.interrupts import exit_code
from diffae.latent.attributes import ATTRIBUTES
from diffae.latent.directions import with_z_sem
from diffae.latent.few_shot import LatentClassifier, sample_like
from diffae.model import DiffusionAutoencoder
from diffae.page import Page
from diffae.plotting import curves, in_rows, tiles_of
from diffae.presets import presets
from diffae.training.autoencoder import train_autoencoder
from diffae.training.metrics import describe_validation, last_validation
from diffae.training.settings import TrainingConfig
from sketchfaces import sketch_faces, write_sketch_faces

FACES = 8
"""Faces that the trained model is measured on."""
SHOWN = 8
FACE_EDITED = 3
EDITS = {
    "age": (10, 25, 40, 55, 70, 85),
    "glasses": (-0.4, -0.2, 0, 0.2, 0.4, 0.6),
    "hat": (-0.4, -0.2, 0, 0.2, 0.4, 0.6),
}
EXAMPLES, WANTED = 120, "glasses"
"""Examples for few-shot sampling, and the label that new faces should have."""
SEED = 20_220_615
"""Seed of the faces drawn here; the trained model's data have other seeds."""
TRAIN_FACES = 1_000
TRAIN_STEPS = 200
BATCH = 8
RUN = "short-run"


def write_page(out: Path) -> int:
    """Write the page, the faces and the run to a folder; returns the exit code."""
    folder = pretrained.pretrained_path()
    model = DiffusionAutoencoder.from_pretrained(folder)
    common.make_folder(out)
    size = model.image_shape[1]
    with common.drawing_faces():
        x = to_tensor(sketch_faces(FACES, size, SEED).images)
    page = Page("A diffusion autoencoder at work", _lead(model, folder))
    _reconstruction(page, model, x)
    _exploration(page, model, x)
    _editing(page, model, x[FACE_EDITED : FACE_EDITED + 1])
    _sampling(page, model)
    if not _training(page, out, size, x):
        say("Interrupted before the report was written.")
        return exit_code()
    _next_steps(page, out, folder)
    page.write(out / "report.html")
    say(f"The report is in {out / 'report.html'}: open it in a browser.")
    return 0


def _lead(model: DiffusionAutoencoder, folder: Path) -> str:
    seen, size = last_validation(folder).get("images"), model.image_shape[1]
    after = f", after {seen:,.0f} images of training" if seen else ""
    return (
        f"Faces drawn by a program, {size} × {size} pixels, which the model has never seen. It has "
        f"{models.parameter_count(model) / 1e6:.2f} million parameters{after}. It describes a face by z_sem, "
        f"{model.config.z_sem_channels} numbers, and everything else by x_T, noise of the image's shape."
    )


def _reconstruction(page: Page, model: DiffusionAutoencoder, x: Tensor) -> None:
    """Each way to find x_T, in pictures and numbers."""
    _announce(f"encoding and decoding {FACES} faces")
    ways = {
        "exact inversion": Sampling(),
        "explicit inversion": Sampling(inversion="explicit"),
        "as published": Sampling.official(Sampling().steps),
    }
    decoded = []
    for name, sampling in ways.items():
        code = model.encode(x, sampling)
        calls = "" if code.calls is None else f"{code.calls.float().mean():.0f}"
        decoded.append((f"z_sem and x_T, {name}", calls, model.decode(code, sampling=sampling).cpu()))
    from_z = model.decode(z_sem=model.encode_semantic(x), generator=models.seeded(0)).cpu()
    decoded.append(("z_sem, x_T random", "0", from_z))
    rows, lines = [tiles_of(x[:SHOWN])], []
    for name, calls, y in decoded:
        quality = reconstruction_quality(to_unit(x), to_unit(y))
        rows.append(tiles_of(y[:SHOWN], [f"{psnr:.1f} dB" for psnr in quality.psnr[:SHOWN].tolist()]))
        psnr, ssim, mse = (values.mean().item() for values in (quality.psnr, quality.ssim, quality.mse))
        lines.append((name, f"{psnr:.1f}", f"{ssim:.4f}", f"{mse:.1e}", calls))
    page.section("Encoding and decoding")
    page.text(
        "The encoder gives z_sem in one call; running the decoder backwards gives x_T. From both, the decoder returns "
        "to the image. Exact inversion solves each of the decoder's steps. Explicit inversion, the usual reverse DDIM, "
        "evaluates the network at the wrong end of each step; the published code also clips and shifts its timesteps. "
        "The last row keeps z_sem and draws x_T at random."
    )
    page.tiles(rows, labels=("input", *ways, "z_sem alone"), side=92)
    page.table(("decoded from", "PSNR dB", "SSIM", "MSE", "network calls to find x_T"), lines)
    page.text(f"Means over {FACES} faces, images in [0, 1], {Sampling().steps} steps to decode; PSNR below each face.")


def _exploration(page: Page, model: DiffusionAutoencoder, x: Tensor) -> None:
    """Interpolation, variations and the path of denoising."""
    _announce("interpolating, varying, denoising")
    x, sampling = x[:4], Sampling()
    code = model.encode(x, sampling)
    page.section("From one face to another")
    page.text("A straight line between two z_sem, a great arc between two x_T, decoded.")
    for a, b in ((0, 1), (2, 3)):
        frames = model.interpolate(code[a : a + 1], code[b : b + 1], 9)
        page.tiles([tiles_of(frames, [f"{index / 8:.2f}" for index in range(9)])], side=104)
    page.animation(tiles_of(model.interpolate(code[:1], code[1:2], 17)))
    page.section("What z_sem leaves open")
    page.text("The z_sem of the first face with eight different x_T. What stays is in z_sem; what changes is in x_T.")
    page.tiles(in_rows(variation_tiles(model, x[:1], 8, 0, sampling), 6), side=110)
    page.section("The predicted image at each noise level")
    page.text("Decoding runs down from x_T, at the highest level t; at each level the network predicts the image.")
    page.tiles(in_rows(path_tiles(model, x[1:2], code[1:2], sampling), 6), side=110)


def _editing(page: Page, model: DiffusionAutoencoder, x: Tensor) -> None:
    """Strips of an image (1, c, h, w) along attributes, if the model has any."""
    if model.folder is None or not (model.folder / ATTRIBUTES).is_file():
        return
    _announce("editing")
    attributes, code = open_attributes(model), model.encode(x)
    assert code.z_sem is not None
    rows = {}
    for name, strengths in EDITS.items():
        if name in attributes.names_:
            z_sem = moved_codes(attributes, code.z_sem, [{name: strength} for strength in strengths])
            frames = model.decode(with_z_sem(code, z_sem))
            rows[name] = tiles_of(frames, [f"{strength:g}" for strength in strengths])
    if not rows:
        return
    page.section("Editing")
    page.text(
        "Labels of some faces give directions of z_sem. Here one face moves along some of them, with its x_T kept: age "
        "in years, the others in fractions of the usual length of z_sem. `diffae edit` does this to a picture."
    )
    page.tiles(list(rows.values()), labels=tuple(rows), side=104)
    lines = [(about.name, f"{about.n:,}", *described(about.score)) for about in attributes.attributes_.values()]
    page.table(("attribute", "labelled faces", "read from z_sem of others", "95 %"), lines)


def _sampling(page: Page, model: DiffusionAutoencoder) -> None:
    """New faces from the prior, and new faces similar to some examples."""
    prior = model.prior
    if prior is None:
        return
    _announce("sampling new faces")
    page.section("New faces")
    page.text("z_sem drawn from the latent prior, a small diffusion model; x_T drawn at random.")
    fast = Sampling.fast(10)
    page.tiles(in_rows(tiles_of(model.sample(3 * SHOWN, sampling=fast, generator=models.seeded(0))), SHOWN), side=92)
    with common.drawing_faces():
        drawn = sketch_faces(EXAMPLES, model.image_shape[1], SEED + 2)
    has = drawn.labels[WANTED] == 1
    z_sem = [model.encode_semantic(to_tensor(drawn.images[rows])) for rows in (has, ~has)]
    classifier = LatentClassifier(prior.to(model.device)).fit(*z_sem)
    found = sample_like(prior, classifier, 2 * SHOWN, generator=models.seeded(1))
    page.text(
        f"{np.count_nonzero(has)} faces with {WANTED} and {np.count_nonzero(~has)} without train a linear classifier "
        f"of z_sem. Of {found.drawn:,} z_sem drawn, those that it classifies as faces with {WANTED} are kept: "
        f"{found.kept / found.drawn:.0%}."
    )
    x = model.decode(z_sem=found.z_sem, sampling=fast, generator=models.seeded(1))
    page.tiles(in_rows(tiles_of(x), SHOWN), side=92)


def _training(page: Page, out: Path, size: int, x: Tensor) -> bool:
    """Train from scratch on freshly drawn faces; False when interrupted."""
    _announce(f"drawing {TRAIN_FACES:,} faces for training")
    with common.drawing_faces():
        write_sketch_faces(out / "faces", TRAIN_FACES, size, SEED + 1)
    model, training = settings(size)
    _announce(f"training a small model on them, {TRAIN_STEPS} steps of {BATCH} images")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        pack = build_pack(out / "faces", cache, size=size)
        if not train_autoencoder(pack, out / RUN, model, training, overwrite=True):
            return False
    _show_training(page, out / RUN, model, x, time.monotonic() - begin)
    return True


def settings(size: int) -> tuple[ModelConfig, TrainingConfig]:
    """A model of half of small32's width, and a training that shows something within a minute."""
    model, training = presets()["small32"]
    assert isinstance(model.decoder, UNetConfig)
    assert isinstance(model.encoder, UNetEncoderConfig)
    decoder = replace(model.decoder, model_channels=16)
    encoder = replace(model.encoder, model_channels=16, z_sem_channels=64)
    images = TRAIN_STEPS * BATCH
    short = replace(
        training,
        images=images, batch_size=BATCH, learning_rate=2e-3, warmup_images=images // 20, val_images=32,
        validate_every=images, save_every=images,
    )  # fmt: skip
    return replace(model, image_size=size, decoder=decoder, encoder=encoder), short


def _show_training(page: Page, run: Path, config: ModelConfig, x: Tensor, seconds: float) -> None:
    """The loss curve, and faces before and after."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [(entry["images"], entry["loss"]) for entry in entries if "loss" in entry]
    seen, values = zip(*losses, strict=True)
    torch.manual_seed(0)  # the initial weights of the training
    before, after = DiffusionAutoencoder(config), DiffusionAutoencoder.from_pretrained(run)
    x, explicit = x[:SHOWN], Sampling(inversion="explicit")
    back = after.decode(after.encode(x, explicit), sampling=explicit)
    from_z = [model.decode(z_sem=model.encode_semantic(x), generator=models.seeded(0)) for model in (before, after)]
    page.section("Training from scratch")
    page.text(
        f"{seen[-1]:,} images seen in {seconds:.0f} seconds, {TRAIN_FACES:,} different ones. "
        f"Validation: {describe_validation(last_validation(run))}. "
        "The model above was trained in the same way, larger and for longer."
    )
    page.picture(curves({"loss": (seen, values)}, "images seen", "training loss"), width=720)
    labels = ("input", "before:\nz_sem alone", "after:\nz_sem alone", "after:\nz_sem and x_T,\nexplicit inversion")
    page.tiles([tiles_of(images) for images in (x, *from_z, back)], labels=labels, side=92)


def _next_steps(page: Page, out: Path, folder: Path) -> None:
    a, b = (str(out / "faces" / f"sketch_{index:06d}.png") for index in (0, 1))
    here = Path.cwd()
    model = str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
    lines = [
        ("diffae", "studio"),
        ("diffae", "interpolate", model, a, b, "--out", str(out / "morph.gif")),
        ("diffae", "vary", model, a, "--out", str(out / "vary.png")),
        ("diffae", "sample", model, "--out", str(out / "samples.png")),
        ("diffae", "train", "PHOTOS", "--out", "runs/photos", "--preset", "small32"),
    ]
    page.section("Next steps")
    page.text(
        "The faces drawn for training are beside this page. Put your own pictures in place of `PHOTOS`. "
        "The first command opens this model in your browser, to edit a picture of yours by sliders: no more is needed."
    )
    page.commands(*(shlex.join(line) for line in lines))


def _announce(what: str) -> None:
    note(f"diffae demo · {what} ...")
