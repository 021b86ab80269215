"""Can generated images be told from real ones? A convolutional detector, and one of frequencies alone (App. L)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.material import Images
from diffae.evaluation.results import Claim, Result, Table, listed, verdict
from diffae.evaluation.statistics import Estimate, mean
from diffae.evaluation.task import LabelledCounts, Task, count
from diffae.evaluation.tasks.manipulation import edit_in_turn
from diffae.evaluation.tasks.shared import against_steps
from diffae.networks.layers import ResBlock, group_norm
from diffae.training.arrays import train_on_arrays
from diffae.training.settings import TrainingConfig

LEAST = 8
"""Fewest real, and generated, images that a detector can be trained on."""

_CONVOLUTIONAL, _FREQUENCIES = "convolutional", "frequencies alone"
_RIGHT = 0.9  # accuracy above which claim 9 counts as shown

Detector = Callable[[Float[Tensor, "n c h w"]], Float[np.ndarray, " n"]]
"""Images in [-1, 1] => the logit of each being generated."""


class DetectorNetwork(nn.Module):
    """Image (b, c, h, w) -> logit (b,): residual blocks, downsampled to 4 pixels, then global average pooling."""

    def __init__(self, channels: int, size: int, width: int = 32) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        while size > 4:
            wider = min(2 * width, 128)
            blocks += [ResBlock(width, wider), ResBlock(wider, wider, how="down")]
            width, size = wider, size // 2
        self.blocks = nn.Sequential(*blocks, group_norm(width), nn.SiLU())
        self.output = nn.Linear(width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        return self.output(self.blocks(x).mean(dim=(2, 3))).squeeze(1)


def quantised(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Images in [-1, 1] rounded to 8 bits, which would otherwise give real images away."""
    return (to_unit(x.cpu()) * 255).round() / 127.5 - 1


def convolutional_detector(
    real: Float[Tensor, "n c h w"],
    fake: Float[Tensor, "m c h w"],
    config: TrainingConfig,
    folder: Path,
    key: str,
    console: Console | None = None,
) -> Detector:
    """A small convolutional network trained to tell both apart; images are rounded to 8 bits first.

    Args:
        real, fake: images in [-1, 1].
        config: length of training and learning rate.
        folder, key: where the weights are kept, and what they depend on; see `diffae.training.arrays`.
        console: where progress goes.
    Raises:
        DataError: too few images.
    """
    x, y = _labelled(real, fake)
    network = train_on_arrays(
        lambda: DetectorNetwork(x.shape[1], x.shape[-1]), [x, y], _loss, config, folder, key, console
    )

    @torch.no_grad()
    def detect(images: Tensor) -> np.ndarray:
        return torch.cat([network(part) for part in quantised(images).split(64)]).numpy()

    return detect


def frequency_detector(real: Float[Tensor, "n c h w"], fake: Float[Tensor, "m c h w"]) -> Detector:
    """Logistic regression on log power spectra: it sees the power of each frequency, not where or what is shown.

    Raises:
        DataError: too few images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _labelled(real, fake)
    weights = "balanced"
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight=weights, max_iter=5000))
    fitted.fit(log_spectrum(x), y.numpy())
    return lambda images: fitted.decision_function(log_spectrum(quantised(images)))


def log_spectrum(x: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n f"]:
    """Logarithm of the azimuthally averaged power spectrum of each channel."""
    power = torch.fft.fftshift(torch.fft.fft2(x.double()).abs().square(), dim=(-2, -1))
    height, width = x.shape[-2:]
    y, z = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    radius = (y.square() + z.square()).sqrt().round().long().flatten()
    counts = torch.bincount(radius).double()
    sums = torch.zeros(*x.shape[:2], len(counts), dtype=torch.float64).index_add(2, radius, power.flatten(2))
    return (sums / counts + 1e-8).log().flatten(1).numpy()


def accuracy(
    detect: Detector, real: Float[Tensor, "n c h w"], fake: Float[Tensor, "m c h w"]
) -> Float[np.ndarray, " n_plus_m"]:
    """1 for each image that is classified correctly, else 0; give as many images of each kind."""
    return np.concatenate([detect(real) < 0, detect(fake) >= 0]).astype(np.float64)


def _labelled(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    if min(len(real), len(fake)) < LEAST:
        raise DataError(f"{len(real)} real and {len(fake)} generated images: a detector needs at least {LEAST} of each")
    return quantised(torch.cat([real.cpu(), fake.cpu()])), torch.cat([torch.zeros(len(real)), torch.ones(len(fake))])


def _loss(network: Callable[[Tensor], Tensor], batch) -> Tensor:
    x, y = batch
    return F.binary_cross_entropy_with_logits(network(x), y)


# ---------------------------------------------------------------------- the task


@dataclass(frozen=True)
class Counts(LabelledCounts):
    """How detectors are trained and tested."""

    detected: int = count(64, 2_000, "both")
    """Real images, and as many generated, that detectors are trained on; half as many test them."""
    detector_images: int = count(4_800, 128_000)
    """Images seen in training the convolutional detector."""


def detection(context: EvaluationContext, counts: Counts) -> Result:
    """Detectors trained on images generated at several T; their accuracy at each T, on edits and reconstructions."""
    known, steps = context.train.first(counts.detected), context.steps
    unseen = context.unseen(counts.detected // 2, "detection", least=8)
    parts = zip(np.array_split(np.arange(len(known)), len(steps)), steps, strict=True)
    mixed = torch.cat([_generated(context, known.at(part), t, "to train") for part, t in parts])
    detectors = _detectors(context, counts, known.tensor(), mixed)
    found = {
        what: {kind: mean(accuracy(detect, unseen, images)) for kind, detect in detectors.items()}
        for what, images in _tests(context, counts, unseen).items()
    }
    rows = tuple((what, *values.values()) for what, values in found.items())
    note = (
        f"Share classified correctly of {len(unseen)} unseen real images and as many others; 0.5 is chance. Detectors "
        f"are trained on {len(known)} real images and {len(mixed)} generated at all these T, rounded to 8 bits."
    )
    table = Table("accuracy", "Accuracy of detectors", ("others", *detectors), rows, note)
    at_steps = {kind: {t: found[_at(t)][kind] for t in steps} for kind in detectors}
    caption = f"Accuracy against T, with 95 % intervals; {len(unseen)} real images and as many generated."
    picture = against_steps("accuracy", caption, at_steps, "accuracy")
    return Result((table,), (picture,), (_claim(at_steps, len(known), counts),), (_source(context),))


def _claim(found: dict[str, dict[int, Estimate]], known: int, counts: Counts) -> Claim:
    """Claim 9, at each T."""
    values = [one.value for one in found[_CONVOLUTIONAL].values()]
    holds = {t: one.above(_RIGHT) for t, one in found[_CONVOLUTIONAL].items()}
    below = [f"T = {t}" for t, right in holds.items() if not right]
    other = max(one.value for one in found[_FREQUENCIES].values())
    reason = (
        f"not significantly at {listed(below)}; the detector was trained on {known:,} real images and as many "
        f"generated, for {counts.detector_images:,} images seen; frequencies alone reach {other:.1%} at best"
    )
    evidence = f"accuracy {min(values):.1%} to {max(values):.1%} over T"
    return Claim(9, verdict(*holds.values()), evidence, reason if below else "")


def _generated(context: EvaluationContext, source: Images, steps: int, what: str) -> Tensor:
    """As many images as `source` has, from z_sem of the prior or, without one, of `source`."""
    what = f"detection, {what}"
    z_sem = context.sample_z_sem(len(source), f"{what} {steps}") if context.prior else context.z_sem(source)
    return context.decode(z_sem, steps, what)


def _detectors(context: EvaluationContext, counts: Counts, real: Tensor, fake: Tensor) -> dict[str, Detector]:
    config = context.training(counts.detector_images)
    facts = (context.model.fingerprint(), config, fake.double().sum().item(), real.double().sum().item())
    key = hashlib.sha256(repr(facts).encode()).hexdigest()
    network = convolutional_detector(real, fake, config, context.work / "detector", key)
    return {_CONVOLUTIONAL: network, _FREQUENCIES: frequency_detector(real, fake)}


def _tests(context: EvaluationContext, counts: Counts, unseen: Tensor) -> dict[str, Tensor]:
    """What is to be told from unseen images, as many of each."""
    source = context.test.first(len(unseen))
    tests = {_at(t): _generated(context, source, t, "to test") for t in context.steps}
    tests["reconstructed from z_sem and x_T"] = context.reconstruct(unseen, "detection: reconstructions")
    if context.train.labels:
        tests["edited"] = edit_in_turn(context, unseen, counts.labelled)
    return tests


def _at(steps: int) -> str:
    return f"generated, T = {steps}"


def _source(context: EvaluationContext) -> str:
    if context.prior:
        return "Generated images are decoded from z_sem of the latent prior and random x_T."
    return "This run has no latent prior: generated images are decoded from z_sem of real images and random x_T."


TASK = Task(
    "detection",
    "Detection",
    "App. L",
    detection,
    Counts,
    {9: "Generated images are told from real ones in more than 90 % of the cases"},
)
