"""Can generated and edited images be told from real ones? (Paper Appendix L.)"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from diffae.evaluation.context import Images, Study, steps_of
from diffae.evaluation.detection import Detector, accuracy, convolutional_detector, frequency_detector
from diffae.evaluation.results import Cell, Claim, Picture, Result, Table, listed, verdict
from diffae.evaluation.statistics import Estimate, mean
from diffae.evaluation.tasks.generated import decode_many, prior_z_sem
from diffae.evaluation.tasks.manipulation import all_edited
from diffae.plotting_figures import curves

_CONVOLUTIONAL = "convolutional"
_RIGHT = 0.9  # share told rightly above which claim 9 counts as shown


def detection(study: Study) -> Result:
    """Detectors trained on images generated at several T; their accuracy at each T, on edits and on reconstructions."""
    known = study.train.first(study.counts.detected)
    unseen = study.unseen(study.counts.detected // 2, "detection", least=8)
    steps = list(steps_of(study))
    parts = zip(np.array_split(np.arange(len(known)), len(steps)), steps, strict=True)
    mixed = torch.cat([_generated(study, known.at(part), t, "to train") for part, t in parts])
    detectors = _detectors(study, known.tensor(), mixed)
    tests = _tests(study, unseen, steps)
    found: dict[str, dict[str, Estimate]] = {
        what: {kind: mean(accuracy(detect, unseen, images)) for kind, detect in detectors.items()}
        for what, images in tests.items()
    }
    rows: tuple[tuple[Cell, ...], ...] = tuple((what, *values.values()) for what, values in found.items())
    note = (
        f"Share told rightly among {len(unseen)} unseen real images and as many others; 0.5 is chance. Detectors are "
        f"trained on {len(known)} real images and {len(mixed)} generated ones of all these T, rounded to 8 bits."
    )
    table = Table("accuracy", "Accuracy of detectors", ("others", *detectors), rows, note)
    lines = {kind: (steps, [found[_at(t)][kind] for t in steps]) for kind in detectors}
    caption = f"Accuracy against T, with 95 % intervals; {len(unseen)} real images and as many generated."
    picture = Picture("accuracy", caption, curves(lines, "steps T", "share told rightly", logarithmic="x"), chart=True)
    claim = _claim(study, {t: found[_at(t)] for t in steps}, len(known))
    return Result((table,), (picture,), (claim,), (_how(study),))


def _claim(study: Study, found: dict[int, dict[str, Estimate]], known: int) -> Claim:
    """Claim 9, at each T."""
    values = [one[_CONVOLUTIONAL].value for one in found.values()]
    evidence = f"accuracy {min(values):.1%} to {max(values):.1%} over T"
    holds = {t: one[_CONVOLUTIONAL].above(_RIGHT) for t, one in found.items()}
    below = [f"T = {t}" for t, right in holds.items() if not right]
    other = max(one[kind].value for one in found.values() for kind in one if kind != _CONVOLUTIONAL)
    reason = (
        f"not surely at {listed(below)}; the detector learnt from {known:,} real images and as many generated, in "
        f"{study.counts.detector_images:,} images seen; frequencies alone reach {other:.1%} at best"
    )
    return Claim(9, verdict(*holds.values()), evidence, reason if below else "")


def _generated(study: Study, source: Images, steps: int, what: str) -> Tensor:
    """As many images as `source` has: of z_sem from the prior, or where there is none of the z_sem of `source`."""
    what = f"detection, {what}"
    sampled = study.model.prior is not None
    z_sem = prior_z_sem(study, len(source), f"{what} {steps}") if sampled else study.z_sem(source)
    return decode_many(study, z_sem, steps, what)


def _detectors(study: Study, real: Tensor, fake: Tensor) -> dict[str, Detector]:
    config = study.training(study.counts.detector_images)
    facts = (study.model.fingerprint(), config, fake.double().sum().item(), real.double().sum().item())
    key = hashlib.sha256(repr(facts).encode()).hexdigest()
    network = convolutional_detector(real, fake, config, study.work / "detector", key)
    return {_CONVOLUTIONAL: network, "frequencies alone": frequency_detector(real, fake)}


def _tests(study: Study, unseen: Tensor, steps: list[int]) -> dict[str, Tensor]:
    """What is to be told from unseen images, as many of each."""
    source = study.test.first(len(unseen))
    tests = {_at(t): _generated(study, source, t, "to test") for t in steps}
    code = study.encode(unseen, study.explicit, "detection: reconstructions")
    tests["reconstructed from z_sem and x_T"] = study.model.decode(code, sampling=study.explicit).cpu().clamp(-1, 1)
    if study.train.labels:
        tests["edited"] = all_edited(study, unseen)
    return tests


def _at(steps: int) -> str:
    return f"generated, T = {steps}"


def _how(study: Study) -> str:
    if study.model.prior is not None:
        return "Generated images are of z_sem drawn from the latent prior, and random x_T."
    return "This run has no latent prior: generated images are of the z_sem of real images, and random x_T."
