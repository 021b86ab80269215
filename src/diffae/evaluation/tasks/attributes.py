"""How much does z_sem tell a linear classifier? (Paper Table 8.)"""

from __future__ import annotations

import numpy as np

from diffae.errors import DataError
from diffae.evaluation.context import Images, Study
from diffae.evaluation.edits import See, pixels
from diffae.evaluation.linear_probe import ProbeResult, lead, macro_average, probe_attribute, weighted_average
from diffae.evaluation.results import Cell, Claim, Picture, Result, Table, listed, verdict
from diffae.latent.probes import LEAST_OF_CLASS
from diffae.plotting_figures import dots

_BLOCK = 512  # images at once
_PIXELS = "pixels, at most 16 x 16"
_LEARNT = ("PCA", "autoencoder", "VAE")
_REFERENCE = (
    "A feature network's column, and that of an autoencoder from elsewhere, is of a network trained on other images: a "
    "reference, no baseline of claim 4."
)


def attributes(study: Study) -> Result:
    """AUROC of every binary attribute, read from z_sem and from each baseline, on the same split."""
    names, left_out = study.readable
    known, tested = study.labelled, study.tested
    if not names:
        raise DataError(f"{listed(left_out)}: {LEAST_OF_CLASS} images of each class must be labelled, seen and unseen")
    codes = {"z_sem": (study.z_sem(known).numpy(), study.z_sem(tested).numpy()), **_others(study, known, tested)}
    readings: dict[str, list[ProbeResult]] = {}
    with study.progress("attributes", len(codes) * len(names)) as done:
        for code, (fitted, unseen) in codes.items():
            readings[code] = []
            for name in names:
                labels = known.labels[name], tested.labels[name]
                readings[code].append(probe_attribute(name, fitted, labels[0], unseen, labels[1]))
                done(sum(map(len, readings.values())))
    rows: list[tuple[Cell, ...]] = [
        (name, readings["z_sem"][place].positives, *(found[place].area for found in readings.values()))
        for place, name in enumerate(names)
    ]
    rows.append(("average, by positives", None, *(weighted_average(found) for found in readings.values())))
    rows.append(("average, plain", None, *(macro_average(found) for found in readings.values())))
    sizes = ", ".join(f"{code} {fitted.shape[1]:,}" for code, (fitted, _) in codes.items())
    note = (
        f"AUROC on {len(tested):,} unseen images of logistic regression fitted to {len(known):,} images of training; "
        f"regularised by cross-validation. Numbers in each code: {sizes}."
    )
    table = Table(
        "auroc", "What a linear classifier reads (AUROC)", ("attribute", "positives", *codes), tuple(rows), note
    )
    groups = {name: {code: found[place].area for code, found in readings.items()} for place, name in enumerate(names)}
    chart = Picture(
        "auroc", f"AUROC with 95 % intervals; {len(tested):,} unseen images.", dots(groups, "AUROC"), chart=True
    )
    return Result((table,), (chart,), _claims(readings, study.seed), _notes(study, left_out))


def _notes(study: Study, left_out: list[str]) -> tuple[str, ...]:
    trained = (
        f"The autoencoder and the VAE were trained on {study.counts.baseline_images:,} images seen, this model on "
        f"{study.trained.images:,}."
    )
    missing = (f"Left out for want of labelled images: {listed(left_out)}.",) if left_out else ()
    return (_REFERENCE, trained, *missing)


def _others(study: Study, known: Images, tested: Images) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Codes of the baselines, pixels, and features of the given network: of the images fitted and those tested."""
    see: dict[str, See] = {_PIXELS: pixels}
    for baseline in study.baselines:
        see[baseline.name] = lambda x, codes=baseline.codes: codes(x).numpy()
    if study.features:
        see[f"{study.features.name} features"] = study.features.pooled
    return {name: (_seen(study, name, known, by), _seen(study, name, tested, by)) for name, by in see.items()}


def _seen(study: Study, name: str, images: Images, see: See) -> np.ndarray:
    """What is seen of some images, which may be more than fit into memory."""
    parts = []
    with study.progress(f"attributes: {name}", len(images)) as done:
        for start in range(0, len(images), _BLOCK):
            parts.append(see(images.at(slice(start, start + _BLOCK)).tensor()))
            done(min(start + _BLOCK, len(images)))
    return np.concatenate(parts)


def _claims(readings: dict[str, list[ProbeResult]], seed: int) -> tuple[Claim, ...]:
    """Claim 4, against what was learnt from the same images; features of other data are not a baseline."""
    others = {code: found for code, found in readings.items() if code in (_PIXELS, *_LEARNT)}
    leads = {code: lead(readings["z_sem"], found, seed) for code, found in others.items()}
    each = ", ".join(f"{code} {weighted_average(found):.3f}" for code, found in others.items())
    evidence = f"average AUROC {weighted_average(readings['z_sem']):.3f}; {each}"
    holds = {code: ahead.above(0) for code, ahead in leads.items()}
    short = [f"{code} ({leads[code].value:+.3f}, {leads[code].low:+.3f} to {leads[code].high:+.3f})"
             for code, right in holds.items() if not right]  # fmt: skip
    reason = f"not surely above {listed(short)}" if short else ""
    return (Claim(4, verdict(*holds.values()), evidence, reason),)
