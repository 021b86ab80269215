"""Can generated and edited images be told from real ones, at each T? (Paper Appendix L.)"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.detectors import (
    Detector,
    accuracy,
    backbone_detector,
    convolutional_detector,
    frequency_detector,
)
from diffae.evaluation.material import Images
from diffae.evaluation.results import Claim, Result, Table, listed, text, verdict
from diffae.evaluation.statistics import Estimate, mean, proportion
from diffae.evaluation.task import LabelledCounts, Task, count
from diffae.evaluation.tasks.manipulation import edit_in_turn
from diffae.evaluation.tasks.shared import against_steps

_CONVOLUTIONAL, _FREQUENCIES = "convolutional", "frequencies alone"
_RIGHT = 0.9  # accuracy above which claim 9 counts as shown
ENOUGH = 7_000
"""Real images, and as many generated, that the paper trained on: with fewer, a low accuracy decides nothing."""

Fakes = Callable[[Images, int, str], Tensor]
"""(images, T, purpose) => as many generated or edited images."""


@dataclass(frozen=True)
class Counts(LabelledCounts):
    """How detectors are trained and tested."""

    detected: int = count(64, 2_000, "both")
    """Real images, and as many generated, that each detector is trained on; half as many test it."""
    detected_steps: tuple[int, ...] = count((10, 20), (100, 200, 500))
    """T of the images, as far as the model has that many levels; each has detectors of its own."""
    detector_images: int = count(1_200, 128_000)
    """Images seen in training each detector."""


def detection(context: EvaluationContext, counts: Counts) -> Result:
    """Accuracy of detectors trained for each T, on new images and on edited ones."""
    known, levels = context.train.first(counts.detected), context.model.config.diffusion.levels
    unseen = context.unseen(counts.detected // 2, "detection", least=8)
    source = context.test.first(len(unseen))
    steps = [t for t in counts.detected_steps if t <= levels] or [levels]
    right: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for kind, fakes in _kinds(context, counts).items():
        for t in steps:
            made = fakes(known, t, "to train"), fakes(source, t, "to test")
            detectors = _detectors(context, counts, known.tensor(), made[0], f"{kind}-{t}")
            right[kind, t] = {name: accuracy(detect, unseen, made[1]) for name, detect in detectors.items()}
    found = {place: {name: proportion(one) for name, one in each.items()} for place, each in right.items()}
    names = list(next(iter(found.values())))
    rows = tuple((kind, t, *values.values()) for (kind, t), values in found.items())
    note = (
        f"Share classified correctly of {len(unseen):,} unseen real images and as many others; 0.5 is chance. Each row "
        f"has detectors of its own, trained on {len(known):,} real images and as many others of this kind and T, "
        f"rounded to 8 bits, for {counts.detector_images:,} images seen. Wilson's intervals."
    )
    table = Table("accuracy", "Accuracy of detectors", ("others", "T", *names), rows, note)
    lines = {f"{kind}, {name}": {t: found[kind, t][name] for t in steps} for kind, _ in found for name in names}
    caption = f"Accuracy against T, with 95 % intervals; {len(unseen)} real images and as many others."
    picture = against_steps("accuracy", caption, lines, "accuracy")
    deciding = context.backbone.name if context.backbone else _CONVOLUTIONAL
    claims = (
        _claim({place: values[deciding] for place, values in found.items()}, deciding, len(known)),
        *_harder({place: values[deciding] for place, values in right.items()}, deciding),
    )
    (kind, t), best = max(found.items(), key=lambda pair: pair[1][deciding].value)
    summary = (
        f"A detector tells images of this model from real ones in at most {best[deciding].value:.0%} of the cases "
        f"({kind}, T = {t}); 50 % is chance."
    )
    return Result((table,), (picture,), claims, _notes(context), summary)


def _claim(found: dict[tuple[str, int], Estimate], detector: str, known: int) -> Claim:
    """Claim 9, for each kind and T. A detector that saw few images and fails does not show that none can succeed."""
    holds = {place: one.above(_RIGHT) for place, one in found.items()}
    if known < ENOUGH:
        holds = {place: right or None for place, right in holds.items()}
    each = ", ".join(f"{kind} at T = {t} {one.value:.1%}" for (kind, t), one in found.items())
    below = [f"{kind} at T = {t}" for (kind, t), right in holds.items() if not right]
    reason = f"not significantly for {listed(below)}; trained on {known:,} real images, in the paper on {ENOUGH:,}"
    return Claim(9, verdict(*holds.values()), f"accuracy, {detector}: {each}", reason if below else "")


def _harder(right: dict[tuple[str, int], np.ndarray], detector: str) -> tuple[Claim, ...]:
    """Claim 16: detectors are right about fewer images at the largest T than at the smallest, for each kind."""
    steps = sorted({t for _, t in right})
    if len(steps) < 2:
        return ()
    low, high = steps[0], steps[-1]
    falls = {kind: mean(right[kind, low] - right[kind, high]) for kind in dict.fromkeys(kind for kind, _ in right)}
    each = ", ".join(f"{kind}: accuracy falls by {text(fall)}" for kind, fall in falls.items())
    short = [kind for kind, fall in falls.items() if not fall.above(0)]
    reason = f"not significantly for {listed(short)}" if short else ""
    evidence = f"{detector}, from T = {low} to {high}, {each}"
    return (Claim(16, verdict(*(fall.above(0) for fall in falls.values())), evidence, reason),)


def _kinds(context: EvaluationContext, counts: Counts) -> dict[str, Fakes]:
    """Ways to make images, by name; editing needs labels."""

    def generated(source: Images, steps: int, what: str) -> Tensor:
        what, t = f"detection, {what}", context.prior_steps(steps)
        drawn = context.prior is not None
        z_sem = context.sample_z_sem(len(source), f"{what} {steps}", t) if drawn else context.z_sem(source)
        return context.decode(z_sem, steps, what)

    def edited(source: Images, steps: int, what: str) -> Tensor:
        sampling = replace(context.explicit, steps=steps)
        return edit_in_turn(context, source.tensor(), counts.labelled, sampling)

    return {"generated": generated, **({"edited": edited} if context.train.labels else {})}


def _detectors(
    context: EvaluationContext, counts: Counts, real: Tensor, fake: Tensor, which: str
) -> dict[str, Detector]:
    config = context.training(counts.detector_images)
    facts = (context.model.fingerprint(), config, fake.double().sum().item(), real.double().sum().item())
    key = hashlib.sha256(repr(facts).encode()).hexdigest()
    network = convolutional_detector(real, fake, config, context.work / f"detector-{which}", key)
    found = {_CONVOLUTIONAL: network, _FREQUENCIES: frequency_detector(real, fake)}
    if context.backbone:
        own = backbone_detector(context.backbone, real, fake, counts.detector_images, context.seed)
        found = {context.backbone.name: own, **found}
    return found


def _notes(context: EvaluationContext) -> tuple[str, ...]:
    source = "the latent prior" if context.prior else "real images, since this run has no latent prior"
    note = f"Generated images are decoded from z_sem of {source}, and random x_T."
    missing = "" if context.train.labels else " Images are not edited: no binary labels are given (--labels)."
    backbone = context.backbone
    how = "below a linear layer" if backbone and backbone.features else "trained further"
    about = (
        f" {backbone.name} is pretrained, {how}, by SGD as in the paper, and decides claim 9." if backbone else
        " The convolutional detector is trained from scratch, by Adam; the paper's is an ImageNet-pretrained ResNet-50 "
        "(--backbone)."
    )  # fmt: skip
    return (note + missing + about,)


TASK = Task(
    "detection",
    "Detection",
    "App. L",
    detection,
    Counts,
    {
        9: "Generated images are told from real ones in more than 90 % of the cases",
        16: "Images made in more steps are harder to detect",
    },
    paper={"detected": 7_000},
)
