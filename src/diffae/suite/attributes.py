"""How much does z_sem tell a linear classifier? (Paper Table 8.)"""

from __future__ import annotations

import numpy as np

from diffae.evaluation.edits import See, pixels
from diffae.evaluation.reading import Reading, macro_average, read_attribute, weighted_average
from diffae.figures import dots
from diffae.suite.findings import Cell, Claim, Findings, Picture, Table, listed, verdict
from diffae.suite.study import Images, Study

_BLOCK = 512  # images at once
_REFERENCE = (
    "A feature network's column is of a network trained on other, labelled images: a reference, no baseline of claim 4."
)


def attributes(study: Study) -> Findings:
    """AUROC of every binary attribute, read from z_sem and from each baseline, on the same split."""
    names = study.need_labels()
    known = study.train.first(study.counts.labelled)
    tested = study.test.first(study.counts.tested)
    codes = {"z_sem": (study.z_sem(known).numpy(), study.z_sem(tested).numpy()), **_others(study, known, tested)}
    readings: dict[str, list[Reading]] = {}
    with study.progress("attributes", len(codes) * len(names)) as done:
        for code, (fitted, unseen) in codes.items():
            readings[code] = []
            for name in names:
                labels = known.labels[name], tested.labels[name]
                readings[code].append(read_attribute(name, fitted, labels[0], unseen, labels[1], study.seed))
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
    return Findings((table,), (chart,), _claims(readings), (_REFERENCE,))


def _others(study: Study, known: Images, tested: Images) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Codes of the baselines, pixels, and features of the given network: of the images fitted and those tested."""
    see: dict[str, See] = {"pixels, at most 16 x 16": pixels}
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


def _claims(readings: dict[str, list[Reading]]) -> tuple[Claim, ...]:
    """Claim 4, against what was learnt from the same images; features of other data are not a baseline."""
    ours = weighted_average(readings["z_sem"])
    others = {code: weighted_average(found) for code, found in readings.items() if not code.endswith("features")}
    del others["z_sem"]
    better = [code for code, area in others.items() if area >= ours]
    evidence = f"average AUROC {ours:.3f}; {', '.join(f'{code} {area:.3f}' for code, area in others.items())}"
    reason = f"not above {listed(better)}; {_differences(readings, better)}" if better else ""
    return (Claim(4, verdict(*(area < ours for area in others.values())), evidence, reason),)


def _differences(readings: dict[str, list[Reading]], better: list[str]) -> str:
    """By how much the best of the better codes is ahead, and how much of that may be chance."""
    best = max(better, key=lambda code: weighted_average(readings[code]))
    pairs = list(zip(readings["z_sem"], readings[best], strict=True))
    behind = [f"{ours.attribute} ({theirs.area.value - ours.area.value:.3f})" for ours, theirs in pairs
              if theirs.area.value > ours.area.value]  # fmt: skip
    half = max((ours.area.high - ours.area.low) / 2 for ours, _ in pairs)
    where = f"behind {best} in {listed(behind)}" if behind else f"as good as {best}"
    return f"{where}, where an interval is ±{half:.3f} at most"
