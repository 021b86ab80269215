"""Every task of an evaluation on a tiny model: what it finds, what it leaves out, and that it resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_network
from torch import Tensor, nn

from diffae.config import ModelConfig, PriorConfig, Sampling, TrainingConfig
from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError
from diffae.evaluation import context as studies
from diffae.evaluation import runner as running
from diffae.evaluation.context import Counts, Images, Study, with_counts
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.linear_probe import ProbeResult
from diffae.evaluation.material import given
from diffae.evaluation.memorisation import Comparison, Nearest
from diffae.evaluation.report import claim_rows, write_page
from diffae.evaluation.results import Claim, Outcome, Result, Skipped, Table, csv_rows, text, verdict
from diffae.evaluation.runner import TASKS, evaluate
from diffae.evaluation.statistics import Estimate, auroc
from diffae.evaluation.tasks import (
    TASK_NAMES,
    attributes,
    capacity,
    conditional,
    generated,
    generation,
    manipulation,
    memorisation,
    reconstruction,
)
from diffae.latent.prior import LatentPrior
from diffae.networks.mlp import SkipMLP

COUNTS = Counts(
    reconstructed=3, denoised=2, pairs=2, varied=3, variations=2, distribution=24, labelled=60, tested=40, outliers=8,
    detected=16, edited=1, classes=1, class_steps=2, learnt=20, baseline_images=16, detector_images=16, rounds=1,
    draws=2, capacities=(4,), capacity_images=16, known=120,
)  # fmt: skip


class Colours(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(dim=(2, 3)), x


class NormalPrior(LatentPrior):
    """Knows the exact noise in z_t where z_norm is N(0, I)."""

    def predict_noise(self, z_t: Tensor, t: int) -> Tensor:
        return float(1 - self.alpha_bar[t]) ** 0.5 * z_t


@contextlib.contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def images(folder: Path, name: str, count: int, seed: int) -> Images:
    """Random pictures, half of them red, labelled so."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (count, 16, 16, 3)).astype(np.uint8)
    red = (np.arange(count) % 2).astype(float)
    pixels[red == 1, ..., 0] += 100
    return Images(Pack.from_arrays([pixels], folder / name), np.arange(count), {"red": red})


class NotedCounts(Counts):
    """Counts that note which of them are asked for."""

    def __getattribute__(self, name: str) -> object:
        if name in Counts.__dataclass_fields__:
            super().__getattribute__("__dict__").setdefault("asked", set()).add(name)
        return super().__getattribute__(name)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(studies, "STEPS", (1, 2))
    monkeypatch.setattr(conditional, "EXAMPLES", 20)
    model = tiny_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Colours(), torch.zeros(1, 3, 16, 16)), str(tmp_path / "colours.pt"))
    network = FeatureNetwork.open(tmp_path / "colours.pt")
    train, test = images(tmp_path, "train.pack", 120, 0), images(tmp_path, "test.pack", 48, 1)
    z_sem = model.encode_semantic(train.tensor())
    model.prior = NormalPrior(PriorConfig(2, 8), SkipMLP(6, 8, 2), z_sem.mean(0), z_sem.std(0))
    return Study(
        model, "run", train, test, COUNTS,
        tmp_path / "report", silent, features=network, perceptual=network, identity=network,
        ddim=tiny_model(tiny_network(z_sem_channels=0)), sampling=Sampling(2, inversion="explicit"),
    )  # fmt: skip


def test_the_tasks_are_those_the_command_names() -> None:
    assert tuple(TASKS) == TASK_NAMES


@pytest.mark.parametrize("task", [name for name in TASK_NAMES if name not in ("throughput",)])
def test_a_task_finds_finite_numbers(study: Study, task: str) -> None:
    counts = NotedCounts(**dataclasses.asdict(COUNTS))
    found = TASKS[task].run(replace(study, counts=counts))
    assert vars(counts)["asked"] == set(TASKS[task].counts)
    assert found.tables
    for table in found.tables:
        assert table.note
        for row in table.rows:
            assert len(row) == len(table.header), table.name
            for cell in row:
                value = cell.value if isinstance(cell, Estimate) else cell
                assert not isinstance(value, float) or np.isfinite(value), (table.name, row)
                if isinstance(cell, Estimate):
                    assert cell.low <= cell.value <= cell.high or cell.count == 2
    for claim in found.claims:
        assert bool(claim.reason) == (claim.verdict != "shown"), claim


def test_edits_are_not_compared_with_the_images_they_came_from(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of a set from itself are below 0: an edit that does nothing would look nearer than near."""
    given: list[Tensor] = []
    monkeypatch.setattr(manipulation, "edit", lambda study, x, name: given.append(x) or x)
    features = study.need_features()
    pooled: list[Tensor] = []
    monkeypatch.setattr(FeatureNetwork, "pooled", lambda self, x: pooled.append(x) or x.mean((2, 3)).numpy())
    manipulation._compare(study, features, "red")
    _, others, made = pooled
    assert made is given[0]
    assert not any(torch.equal(one, other) for one in made for other in others)


def test_what_is_missing_is_named(study: Study) -> None:
    bare = replace(
        study, features=None, perceptual=None, identity=None, ddim=None, train=replace(study.train, labels={}),
        test=replace(study.test, labels={}),
    )  # fmt: skip
    bare.model.prior = None
    for task, what in {
        "generation": "--features", "conditional": "--features", "manipulation": "--features", "attributes": "--labels",
        "memorisation": "train-prior",
    }.items():  # fmt: skip
        with pytest.raises(Skipped, match=what):
            TASKS[task].run(bare)
    few = replace(study, test=study.test.first(1))
    with pytest.raises(DataError, match="1 unseen images: reconstruction needs at least 2"):
        TASKS["reconstruction"].run(few)


def test_results_are_written_and_not_computed_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    tasks = ["denoising", "variation"]
    first = evaluate(study, tasks, {"quick": True}, told.append)
    for name in ("results.json", "denoising-error.csv", "denoising-error.png", "variation-sheet.png"):
        assert (study.out / name).stat().st_size > 0
    monkeypatch.setattr(running, "_run", lambda *_: pytest.fail("computed again"))
    again = evaluate(study, tasks, {}, told.append)
    assert [found.to_json() for found in again.values()] == [found.to_json() for found in first.values()]
    assert told[-1] == "[2/2] variation: there already"


def test_a_change_of_what_a_task_uses_computes_it_again(study: Study) -> None:
    keys = {name: running._key(study, name) for name in TASKS}
    other = replace(study, ddim=None)
    changed = {name for name in TASKS if running._key(other, name) != keys[name]}
    assert changed == {name for name, task in TASKS.items() if "ddim" in task.parts}
    more = replace(study, counts=replace(study.counts, pairs=3))
    assert [name for name in TASKS if running._key(more, name) != keys[name]] == ["interpolation"]
    seeded = replace(study, seed=1)
    assert all(running._key(seeded, name) != keys[name] for name in TASKS)


def test_capacity_trains_anew_on_other_images(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same folder: what was trained on other images is not theirs."""
    trained_on: list[int] = []

    def train(pack: Pack, folder: Path, config: ModelConfig, *_: object, **__: object) -> bool:
        trained_on.append(len(pack))
        tiny_model(config.network).save_pretrained(folder)
        return True

    monkeypatch.setattr(capacity, "train_autoencoder", train)
    for images in (study.train, study.train.first(100)):
        list(capacity._trained(replace(study, train=images)))
    assert trained_on == [120, 100]


def test_a_task_left_out_keeps_its_reason_and_is_tried_again(study: Study) -> None:
    told: list[str] = []
    bare = replace(study, features=None)
    outcomes = evaluate(bare, ["generation", "denoising"], {}, told.append)
    assert "--features" in str(outcomes["generation"].skipped)
    assert outcomes["denoising"].skipped is None
    plain = json.loads((study.out / "results.json").read_text())
    assert plain["tasks"]["generation"]["skipped"] == outcomes["generation"].skipped
    write_page(study.out, "Title", "", [], outcomes, quick=True)
    page = (study.out / "index.html").read_text()
    assert "\u00a0to\u00a0" in page  # intervals are not broken over lines
    assert "Left out: no feature network" in page
    assert "Quick run" in page
    assert "data:image/png;base64" in page


def test_damaged_results_are_named(study: Study) -> None:
    study.out.mkdir()
    (study.out / "results.json").write_text('{"tasks": {"denoising": {}}}')
    with pytest.raises(DataError, match=r"results\.json is damaged"):
        evaluate(study, [], {}, print)


def test_an_outcome_survives_json() -> None:
    table = Table("t", "T", ("a", "b"), (("x", Estimate(1.0, 0.5, 2.0, 9)), ("y", 3)), "note")
    claims = (Claim(5, "not shown", "by numbers", "because"),)
    found = Outcome("denoising", "key", 1.5, 1.2, Result((table,), (), claims, ("a note",)))
    assert Outcome.from_json("denoising", json.loads(json.dumps(found.to_json()))) == found
    skipped = Outcome("denoising", "key", 0.1, 0.1, skipped="reason")
    assert Outcome.from_json("denoising", json.loads(json.dumps(skipped.to_json()))) == skipped


def test_cells_and_csvs_are_read_easily() -> None:
    assert text(Estimate(0.98765, 0.9, 0.999, 3)) == "0.9877 (0.9000 to 0.9990)"
    assert [text(value) for value in (1234.5, 0.00012, 12, None, "x", 45.678)] == [
        "1,234",
        "1.20e-04",
        "12",
        "",
        "x",
        "45.68",
    ]
    table = Table("t", "T", ("name", "value"), (("a", Estimate(1.0, 0.5, 2.0, 9)), ("b", None)))
    assert csv_rows(table) == [
        ["name", "value", "value low", "value high", "value count"],
        ["a", "1.0", "0.5", "2.0", "9"],
        ["b", "", "", "", ""],
    ]


def test_claims_of_several_tasks_are_put_together() -> None:
    def outcome(verdict, reason: str = "") -> Outcome:
        return Outcome("denoising", "", result=Result(claims=(Claim(5, verdict, "1 against 2", reason),)))

    both = claim_rows({"a": outcome("shown"), "b": outcome("not shown", "it is small")})
    assert both[4][2:4] == ("partly shown", "1 against 2. 1 against 2. Why not: it is small.")
    assert both[0][2:4] == ("not measured", "The task variation was not run.")
    without = {"interpolation": Outcome("interpolation", ""), "detection": Outcome("detection", "", skipped="why")}
    assert [claim_rows(without)[place][3] for place in (1, 8)] == [
        "There was no DDIM baseline (--ddim) to compare with, or no latent prior.", "The task detection was left out.",
    ]  # fmt: skip
    assert claim_rows({"a": outcome("shown")})[4][2] == "shown"
    assert claim_rows({"a": outcome("not shown"), "b": outcome("not decided")})[4][2] == "not decided"
    assert all(row[4] for row in both)  # what the paper has to say


def test_a_verdict_is_of_all_that_a_claim_says() -> None:
    assert [verdict(True, True), verdict(True, False), verdict(False, False)] == ["shown", "partly shown", "not shown"]
    assert [verdict(True, None), verdict(None, False), verdict(None)] == ["partly shown", "not decided", "not decided"]


def row(name: str, steps: int, *errors: float) -> reconstruction.Row:
    one = Estimate(float(np.mean(errors)), 0.0, 9.0, len(errors))
    return reconstruction.Row(name, steps, 1, 1.0, one, one, one, None, np.array(errors))


def test_reconstruction_must_be_better_by_more_than_chance() -> None:
    rows = [row(f"{whose}: x_T explicit", steps, *errors) for whose, steps, errors in (
        ("ours", 10, (4.0, 4.1)), ("ours", 20, (0.9, 0.8)), ("ours", 100, (0.1, 0.2)),
        ("DDIM", 10, (3.0, 3.1)), ("DDIM", 20, (2.0, 0.1)), ("DDIM", 100, (0.5, 0.6)),
    )]  # fmt: skip
    (claim,) = reconstruction._claims(rows)
    assert claim.verdict == "partly shown"
    assert "not surely better at T = 10 and 20;" in claim.reason
    assert "DDIM's error at T = 100 is first beaten at T = 100" in claim.reason


def test_readings_must_be_better_by_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.4).astype(float)
    labels[:20] = np.nan

    def reading(strength: float) -> ProbeResult:
        logits = rng.normal(size=400) + strength * np.nan_to_num(labels)
        known = ~np.isnan(labels)
        return ProbeResult("hat", auroc(logits[known], labels[known] == 1), 9, logits, labels)

    strengths = {"z_sem": 1.5, "pixels, at most 16 x 16": 1.5, "PCA": 0.2, "Net features": 9.0, "theirs": 9.0}
    (claim,) = attributes._claims({name: [reading(strength)] for name, strength in strengths.items()}, 0)
    assert claim.verdict == "partly shown"
    assert re.match(r"not surely above pixels, at most 16 x 16 \(.0\.0\d\d, -0\.\d+ to \+0\.\d+\)$", claim.reason)


def test_fewer_steps_are_needed_only_where_samples_are_nearer() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 3))

    def claims(ours: float, ddim: float) -> tuple[Claim, ...]:
        made = {("ours", 10): rng.normal(ours, 1, (200, 3)), ("DDIM", 20): rng.normal(ddim, 1, (200, 3))}
        others = {("ours", 20): real, ("DDIM", 10): real, ("ours, z_sem of real images", 10): real}
        return generation._claims(real, {**made, **others}, 0)

    assert [claims(*means)[0].verdict for means in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5))] == [
        "shown", "not shown", "not decided",
    ]  # fmt: skip
    assert generation._claims(real, {("ours", 10): real, ("ours", 20): real}, 0) == ()


def test_an_edit_that_does_nothing_is_not_taken_for_one(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sets = {"with": rng.normal(2, 1, (64, 4)), "without": rng.normal(0, 1, (64, 4)), "idle": rng.normal(0, 1, (64, 4)),
            "moved": rng.normal(1, 1, (64, 4))}  # fmt: skip
    monkeypatch.setattr(manipulation, "edit", lambda study, x, name: x)
    found = {}
    for made in ("idle", "moved"):
        pooled = iter([sets["with"], sets["without"], sets[made]])
        monkeypatch.setattr(FeatureNetwork, "pooled", lambda self, x, pooled=pooled: next(pooled))
        found[made] = manipulation._compare(study, study.need_features(), "red")
    assert (found["idle"].holds, found["moved"].holds) == (None, True)
    claim = manipulation._claim(list(found.values()))
    assert claim.verdict == "partly shown"
    assert claim.evidence == "red perhaps toward and near; red toward and near"
    assert claim.reason.startswith("red: nearer by")


def test_too_few_samples_do_not_show_that_none_are_copies() -> None:
    def comparison(count: int) -> Comparison:
        distances = np.stack([np.linspace(0.5, 0.9, count), np.ones(count)], axis=1)
        near = Nearest(np.zeros((count, 2), np.int64), distances)
        return Comparison(near, near)

    verdicts = [memorisation._claim({"pixels": comparison(count)}, 0.5, count).verdict for count in (8, 200)]
    assert verdicts == ["not decided", "shown"]
    assert memorisation._claim({"pixels": comparison(200)}, 0.001, 200).verdict == "not shown"


def test_what_would_be_lost_is_not_overwritten(study: Study) -> None:
    evaluate(study, ["denoising", "variation"], {"quick": False}, print)
    other = replace(study, counts=replace(study.counts, denoised=3))
    with pytest.raises(DataError, match=r"holds denoising, found with other settings.*name them too"):
        evaluate(other, ["variation"], {"quick": False}, print)
    with pytest.raises(DataError, match="holds a full evaluation, which a quick one would replace"):
        evaluate(other, ["denoising"], {"quick": True}, print)
    assert set(evaluate(other, ["denoising"], {"quick": False}, print)) == {"denoising", "variation"}


def test_a_task_that_was_left_out_is_nothing_to_lose(study: Study) -> None:
    evaluate(replace(study, features=None), ["generation", "denoising"], {}, print)
    assert set(evaluate(study, ["denoising"], {}, print)) == {"denoising"}


def test_files_are_those_of_the_last_findings(study: Study) -> None:
    pages: list[set[str]] = []
    evaluate(study, ["variation", "denoising"], {}, print, lambda found: pages.append(set(found)))
    assert pages == [{"variation"}, {"denoising", "variation"}, {"denoising", "variation"}]
    assert (study.out / "variation-alike.csv").is_file()
    evaluate(replace(study, perceptual=None, identity=None), ["variation"], {}, print)
    assert not (study.out / "variation-alike.csv").exists()
    (study.out / "denoising-error.csv").unlink()
    evaluate(replace(study, perceptual=None, identity=None), ["denoising"], {}, print)
    assert (study.out / "denoising-error.csv").is_file()


def test_a_rare_attribute_does_not_take_the_others_with_it(study: Study) -> None:
    rare = (np.arange(48) < 2).astype(float)
    test = replace(study.test, labels={**study.test.labels, "rare": rare})
    train = replace(study.train, labels={**study.train.labels, "rare": np.arange(120) % 2.0})
    found = attributes.attributes(replace(study, train=train, test=test))
    assert [line[0] for line in found.tables[0].rows] == ["red", "average, by positives", "average, plain"]
    assert "Left out for want of labelled images: rare." in found.notes


def test_unseen_images_that_were_trained_on_are_refused(study: Study) -> None:
    with pytest.raises(DataError, match=r"48 of 48 unseen images are among the images of training"):
        given(study.test.pack, study.test.pack, None, TrainingConfig())
    train, test = given(study.train.pack, study.test.pack, None, TrainingConfig())
    assert sorted(test.rows.tolist()) == list(range(48)) != test.rows.tolist()  # files are often sorted
    assert len(train) == 120


def test_the_documentation_names_every_count() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    for name, quick in dataclasses.asdict(studies.QUICK).items():
        number = ", ".join(map(str, quick)) if isinstance(quick, tuple) else f"{quick:,}"
        assert re.search(rf"^\| `{name}` \| [^|]+ \| {number} \|", page, re.MULTILINE), name


def test_counts_are_changed_by_name() -> None:
    changed = with_counts(COUNTS, ["detected=500", "capacities=8,16"])
    assert changed == replace(COUNTS, detected=500, capacities=(8, 16))
    for wrong in ("detectd=5", "detected", "detected=0", "detected=5,6", "detected=-5", "capacities=8,"):
        with pytest.raises(ConfigError, match=re.escape(repr(wrong))):
            with_counts(COUNTS, [wrong])


def test_samples_of_the_same_distribution_are_near(study: Study) -> None:
    assert study.features is not None
    one, other = (study.features.vectors(study.train.tensor()[rows]) for rows in (slice(60), slice(60, None)))
    far = generated.distances(one, other + 1)
    near = generated.distances(one, other)
    assert near[1].low < 0.01 < far[1].low
    assert dataclasses.astuple(near[0]) < dataclasses.astuple(far[0])
