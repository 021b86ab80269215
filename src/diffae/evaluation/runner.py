"""Running tasks: what is computed is not computed again, what cannot be is left out with its reason."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffae import __version__
from diffae.checkpoint import written_beside
from diffae.errors import DataError, DiffaeError, TrainingError
from diffae.evaluation.context import Images, Study
from diffae.evaluation.results import Outcome, Result, csv_rows, listed
from diffae.evaluation.tasks import (
    attributes,
    capacity,
    conditional,
    denoising,
    detection,
    generation,
    interpolation,
    manipulation,
    memorisation,
    out_of_distribution,
    reconstruction,
    throughput,
    variation,
)

RESULTS = "results.json"


@dataclass(frozen=True)
class Task:
    """One question, as the command line names it."""

    title: str
    place: str
    """In the paper."""
    run: Callable[[Study], Result]
    counts: tuple[str, ...]
    """Of `Counts`, those that its findings depend on."""
    parts: tuple[str, ...] = ()
    """What else they depend on besides the model and its images: names of `_PARTS`."""


TASKS = {
    "reconstruction": Task(
        "Reconstruction", "Tables 1, 2", reconstruction.reconstruction,
        ("reconstructed", "learnt", "baseline_images"), ("perceptual", "ddim", "others"),
    ),
    "capacity": Task(
        "Size of z_sem", "Table 2 b-e", capacity.capacity,
        ("capacities", "capacity_images", "reconstructed", "labelled", "tested"), ("perceptual", "capacity", "labels"),
    ),
    "denoising": Task("Denoising", "Fig. 6", denoising.denoising, ("denoised",), ("ddim",)),
    "generation": Task(
        "Generation", "Table 4", generation.generation, ("distribution",), ("features", "ddim", "prior")
    ),
    "conditional": Task(
        "Conditional generation", "Table 3", conditional.conditional,
        ("distribution", "classes", "class_steps", "draws"), ("features", "prior", "labels"),
    ),
    "attributes": Task(
        "Attributes", "Table 8", attributes.attributes,
        ("labelled", "tested", "learnt", "baseline_images"), ("features", "labels", "others"),
    ),
    "manipulation": Task(
        "Manipulation", "Tables 9, 10, Fig. 5", manipulation.manipulation,
        ("distribution", "edited", "labelled"), ("features", "identity", "labels"),
    ),
    "interpolation": Task(
        "Interpolation", "Fig. 4, App. F", interpolation.interpolation, ("pairs",), ("perceptual", "ddim")
    ),
    "variation": Task(
        "Variation", "Figs. 3, 10", variation.variation, ("varied", "variations"), ("perceptual", "identity")
    ),
    "memorisation": Task(
        "Memorisation", "App. C, Fig. 9", memorisation.memorisation,
        ("distribution", "known", "labelled"), ("features", "prior"),
    ),
    "out-of-distribution": Task(
        "Out of distribution", "App. K", out_of_distribution.out_of_distribution, ("outliers", "labelled"), ("foreign",)
    ),
    "detection": Task(
        "Detection", "App. L", detection.detection, ("detected", "detector_images", "labelled"), ("prior", "labels")
    ),
    "throughput": Task("Throughput", "Table 7", throughput.throughput, ("rounds",)),
}  # fmt: skip
"""In the order of the report."""


def _network(model: Any) -> str | None:
    return None if model is None else model.fingerprint()


_PARTS: dict[str, Callable[[Study], Any]] = {
    "features": lambda study: study.features and study.features.key,
    "perceptual": lambda study: study.perceptual and study.perceptual.key,
    "identity": lambda study: study.identity and study.identity.key,
    "ddim": lambda study: _network(study.ddim),
    "others": lambda study: [(other.name, other.key) for other in study.others],
    "capacity": lambda study: [(name, model.fingerprint()) for name, model in study.capacity],
    "foreign": lambda study: study.foreign and study.foreign.index,
    "labels": lambda study: [_labels(images) for images in (study.train, study.test)],
    "prior": lambda study: (
        study.model.prior and {k: v.sum().item() for k, v in study.model.prior.network.state_dict().items()}
    ),
}


def evaluate(
    study: Study,
    tasks: Sequence[str],
    about: Mapping[str, Any],
    tell: Callable[[str], None],
    written: Callable[[Mapping[str, Outcome]], None] = lambda _: None,
) -> dict[str, Outcome]:
    """Run tasks and write results.json, CSVs and PNGs after each.

    Args:
        study: what they work on; its `out` is the folder.
        tasks: names of `TASKS`.
        about: plain values to note in results.json.
        tell: takes a line for whoever watches.
        written: called with all that is found so far, whenever it was written.
    Returns:
        What these tasks found, and what others found earlier for the same model and images.
    Raises:
        DataError: results.json is there and cannot be read, or holds what this evaluation would throw away: findings
            of other tasks made with other settings, or a full evaluation's, where this one is quick.
        TrainingError: the disk is full, or a training diverged.
    """
    keys = {name: _key(study, name) for name in TASKS}
    there, quick = _read(study.out)
    earlier = {name: found for name, found in there.items() if found.key == keys[name]}
    stale = [name for name, found in there.items() if name not in earlier and found.skipped is None]
    _check_nothing_is_lost(study.out, tasks, stale, full_by_quick=bool(about.get("quick")) and quick is False)
    outcomes = {name: earlier[name] for name in TASKS if name in earlier and _whole(study.out, earlier[name])}
    for number, name in enumerate(tasks, 1):
        where = f"[{number}/{len(tasks)}] {name}"
        if name in outcomes and outcomes[name].skipped is None:
            tell(f"{where}: there already")
            continue
        tell(f"{where} ...")
        outcomes[name] = found = _run(study, name, keys[name])
        _write(study.out, outcomes, about)
        written({name: outcomes[name] for name in TASKS if name in outcomes})
        tell(f"{where}: left out, {found.skipped}" if found.skipped else f"{where}: {found.seconds:.0f} s")
    _write(study.out, outcomes, about)
    found = {name: outcomes[name] for name in TASKS if name in outcomes}
    written(found)
    return found


def _check_nothing_is_lost(out: Path, tasks: Sequence[str], stale: Sequence[str], *, full_by_quick: bool) -> None:
    others = [name for name in stale if name not in tasks]
    if others:
        rule = "they would be lost; name them too, or choose another --out"
        raise DataError(f"{out} holds {listed(others)}, found with other settings, images or another model: {rule}")
    if stale and full_by_quick:
        raise DataError(f"{out} holds a full evaluation, which a quick one would replace: choose another --out")


def _run(study: Study, name: str, key: str) -> Outcome:
    start = time.monotonic(), time.process_time()
    try:
        result, skipped = TASKS[name].run(study), None
    except TrainingError:
        raise
    except DiffaeError as error:
        result, skipped = Result(), " ".join(str(error).split())
    _write_files(study.out, name, result)
    return Outcome(name, key, time.monotonic() - start[0], time.process_time() - start[1], result, skipped)


def _write_files(out: Path, task: str, result: Result) -> None:
    for old in (*out.glob(f"{task}-*.csv"), *out.glob(f"{task}-*.png")):
        old.unlink()
    for picture in result.pictures:
        with written_beside(picture_path(out, task, picture.name)) as temporary:
            assert picture.image is not None
            picture.image.save(temporary, "PNG", optimize=True)
    for table in result.tables:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(csv_rows(table))
        with written_beside(_table_path(out, task, table.name)) as temporary:
            temporary.write_text(buffer.getvalue(), encoding="utf-8")


def picture_path(out: Path, task: str, name: str) -> Path:
    """Where a picture is."""
    return out / f"{task}-{name}.png"


def _table_path(out: Path, task: str, name: str) -> Path:
    return out / f"{task}-{name}.csv"


def _whole(out: Path, outcome: Outcome) -> bool:
    """Whether its pictures and CSVs are still there."""
    pictures = (picture_path(out, outcome.task, picture.name) for picture in outcome.result.pictures)
    tables = (_table_path(out, outcome.task, table.name) for table in outcome.result.tables)
    return all(path.is_file() for path in (*pictures, *tables))


def _write(out: Path, outcomes: Mapping[str, Outcome], about: Mapping[str, Any]) -> None:
    found = {name: outcomes[name].to_json() for name in TASKS if name in outcomes}
    with written_beside(out / RESULTS) as temporary:
        text = json.dumps({"diffae": __version__, **about, "tasks": found}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _read(out: Path) -> tuple[dict[str, Outcome], bool | None]:
    """What was found earlier, and whether that evaluation was a quick one, where it says."""
    path = out / RESULTS
    if not path.is_file():
        return {}, None
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        tasks = {name: Outcome.from_json(name, found) for name, found in plain["tasks"].items() if name in TASKS}
        return tasks, plain.get("quick")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it, or choose another --out") from error


def _key(study: Study, task: str) -> str:
    """Of whatever the task's findings depend on."""
    images = [(part.pack.path.name, part.pack.index, part.rows.tolist()) for part in (study.train, study.test)]
    counts = [getattr(study.counts, name) for name in TASKS[task].counts]
    parts = [_PARTS[name](study) for name in TASKS[task].parts]
    facts = (__version__, study.model.fingerprint(), images, counts, study.seed, parts)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _labels(images: Images) -> list[tuple[str, str]]:
    return [(name, hashlib.sha256(values.tobytes()).hexdigest()) for name, values in images.labels.items()]


def with_pictures(out: Path, outcome: Outcome) -> Outcome:
    """The outcome with its pictures read from their files."""
    from PIL import Image

    pictures = tuple(
        replace(picture, image=Image.open(picture_path(out, outcome.task, picture.name)))
        for picture in outcome.result.pictures
    )
    return replace(outcome, result=replace(outcome.result, pictures=pictures))
