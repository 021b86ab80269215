"""Running tasks: what is written, what is reused, what is computed again, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from diffae.config import Sampling
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.report import Heading, claim_rows, measured_claims, write_page
from diffae.evaluation.results import Claim, Outcome, Result, Table, csv_rows, text, verdict
from diffae.evaluation.runner import evaluate
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.task import LabelledCounts, Task, count
from diffae.evaluation.tasks import built_in

Counts = dict[str, Any]


def tasks(*names: str) -> list[Task]:
    return [built_in()[name] for name in names]


def reader(name: str, read: Callable[[EvaluationContext], object]) -> Task:
    """A task from outside the package that reads some parts."""

    def run(context: EvaluationContext, counts: object) -> Result:
        read(context)
        return Result((Table("t", "T", ("a",), (("x",),)),))

    return Task(name, name, "", run)


def computed(context: EvaluationContext, tasks: list[Task], **settings: Any) -> set[str]:
    """Evaluate, and say which tasks were run rather than reused."""
    log: list[str] = []
    evaluate(context, tasks, log=log.append, **settings)
    return {line.split()[1] for line in log if line.endswith("...")}


def test_results_are_written_and_not_computed_again(context: EvaluationContext, counts: Counts) -> None:
    chosen = tasks("denoising", "variation")
    first = evaluate(context, chosen, counts=counts, about={"quick": True})
    for name in ("results.json", "denoising-error.csv", "denoising-error.png", "variation-sheet.png"):
        assert (context.out / name).stat().st_size > 0
    log: list[str] = []
    again = evaluate(context, chosen, counts=counts, log=log.append)
    assert [found.to_json() for found in again.values()] == [found.to_json() for found in first.values()]
    assert log == ["[1/2] denoising: there already", "[2/2] variation: there already"]


def test_results_hold_the_parts_that_were_read(context: EvaluationContext, counts: Counts) -> None:
    evaluate(context, tasks("denoising", "generation"), counts=counts)
    plain = json.loads((context.out / "results.json").read_text())["tasks"]
    parts = {"version", "model", "test", "ddim", "sampling", "protocol", "counts.denoised"}
    assert set(plain["denoising"]["parts"]) == parts
    assert plain["denoising"]["parts"]["counts.denoised"] == "2"
    parts = {"version", "model", "train", "test", "ddim", "features", "prior", "seed", "protocol", "systems"}
    assert set(plain["generation"]["parts"]) == {*parts, "counts.distribution"}


def test_only_tasks_that_read_what_changed_are_computed_again(context: EvaluationContext) -> None:
    chosen = [
        reader("sampling", lambda c: c.explicit),
        reader("prior", lambda c: c.prior),
        reader("labels", lambda c: c.need_labels()),
        reader("images", lambda c: c.train.tensor(2)),
        reader("ddim", lambda c: c.models),
        reader("features", lambda c: c.need_features()),
        reader("seed", lambda c: c.generator("noise")),
    ]
    assert computed(context, chosen) == {task.name for task in chosen}
    model = copy.deepcopy(context.model)
    assert model.prior is not None
    model.prior.std = model.prior.std * 2
    changes = {
        "sampling": replace(context, sampling=Sampling(7)),
        "prior": replace(context, model=model),
        "labels": replace(context, test=replace(context.test, known={"blue": context.test.known["red"]})),
        "images": replace(context, train=context.train.first(50)),
        "ddim": replace(context, ddim=None),
        "seed": replace(context, seed=5),
    }
    for name, other in changes.items():
        expected = {name, "labels"} if name == "images" else {name}  # fewer images have fewer labels
        assert computed(other, chosen) == expected
        assert computed(context, chosen) == expected
    assert computed(context, chosen) == set()


def test_sampling_and_counts_belong_to_the_tasks_that_read_them(context: EvaluationContext, counts: Counts) -> None:
    chosen = tasks("denoising", "interpolation", "variation", "memorisation")
    computed(context, chosen, counts=counts)
    other = replace(context, sampling=Sampling(1, inversion="explicit"))
    assert computed(other, chosen, counts=counts) == {"denoising", "interpolation", "variation"}
    more = {**counts, "interpolation": replace(counts["interpolation"], pairs=4)}
    assert computed(other, chosen, counts=more) == {"interpolation"}


def test_a_task_from_outside_needs_no_change_of_ours(context: EvaluationContext) -> None:
    @dataclass(frozen=True)
    class Few:
        images: int = count(quick=3, full=5)

    def brightness(context: EvaluationContext, counts: Few) -> Result:
        value = context.unseen(counts.images, "brightness").mean().item()
        claim = Claim(100, verdict(value < 0), f"brightness {value:.2g}")
        return Result((Table("brightness", "Brightness", ("mean",), ((value,),)),), claims=(claim,))

    mine = Task("brightness", "Brightness", "nowhere", brightness, Few, {100: "Images are dark"})
    assert computed(context, [mine]) == {"brightness"}
    assert computed(context, [mine]) == set()
    assert computed(context, [mine], counts={"brightness": Few(4)}) == {"brightness"}
    assert computed(context, [replace(mine, version="2")]) == {"brightness"}
    own = {"denoising": built_in()["denoising"].counts(2)}
    outcomes = evaluate(context, [mine, *tasks("denoising")], counts=own)
    assert list(outcomes) == ["denoising", "brightness"]
    known = {**built_in(), "brightness": mine}
    assert claim_rows(outcomes, known)[-1][:3] == ("100", "Images are dark", "shown")
    write_page(context.out, Heading("Title", "", [], quick=False), outcomes, known)
    with pytest.raises(DataError, match="holds brightness, found with other settings"):
        evaluate(context, tasks("denoising"), counts=own)


def test_an_earlier_versions_results_are_computed_again(context: EvaluationContext) -> None:
    context.out.mkdir()
    old = {"key": "abc", "seconds": 1.0, "cpu_seconds": 1.0, "tables": [], "pictures": [], "claims": [], "notes": []}
    (context.out / "results.json").write_text(json.dumps({"tasks": {"mine": old}}))
    mine = Task("mine", "Mine", "nowhere", lambda context, counts: Result(), LabelledCounts)
    assert computed(context, [mine]) == {"mine"}


def test_a_task_left_out_keeps_its_reason_and_is_tried_again(context: EvaluationContext, counts: Counts) -> None:
    bare, chosen = replace(context, features=None), tasks("generation", "denoising")
    outcomes = evaluate(bare, chosen, counts=counts)
    assert "--features" in str(outcomes["generation"].skipped)
    assert outcomes["denoising"].skipped is None
    plain = json.loads((context.out / "results.json").read_text())
    assert plain["tasks"]["generation"]["skipped"] == outcomes["generation"].skipped
    write_page(context.out, Heading("Title", "", [], quick=True), outcomes)
    page = (context.out / "index.html").read_text()
    assert "\u00a0to\u00a0" in page  # intervals are not broken over lines
    assert "Left out: no feature network" in page
    assert "Quick run" in page
    assert "data:image/png;base64" in page
    assert computed(bare, chosen, counts=counts) == {"generation"}


def test_damaged_results_are_named(context: EvaluationContext) -> None:
    context.out.mkdir()
    (context.out / "results.json").write_text('{"tasks": {"denoising": {}}}')
    with pytest.raises(DataError, match=r"results\.json is damaged"):
        evaluate(context, [])


def test_what_would_be_lost_is_not_overwritten(context: EvaluationContext, counts: Counts) -> None:
    denoising, variation = tasks("denoising", "variation")
    evaluate(context, [denoising, variation], counts=counts, about={"quick": False})
    other = {**counts, "denoising": replace(counts["denoising"], denoised=3)}
    with pytest.raises(DataError, match=r"holds denoising, found with other settings.*name them too"):
        evaluate(context, [variation], counts=other, about={"quick": False})
    with pytest.raises(DataError, match="holds a full evaluation, which a quick one would replace"):
        evaluate(context, [denoising], counts=other, about={"quick": True})
    assert set(evaluate(context, [denoising], counts=other, about={"quick": False})) == {"denoising", "variation"}


def test_a_task_that_was_left_out_is_nothing_to_lose(context: EvaluationContext, counts: Counts) -> None:
    evaluate(replace(context, features=None), tasks("generation", "denoising"), counts=counts)
    assert set(evaluate(context, tasks("denoising"), counts=counts)) == {"denoising"}


def test_files_are_those_of_the_last_results(context: EvaluationContext, counts: Counts) -> None:
    pages: list[set[str]] = []
    chosen = tasks("variation", "denoising")
    evaluate(context, chosen, counts=counts, on_write=lambda found: pages.append(set(found)))
    assert pages == [{"variation"}, {"denoising", "variation"}, {"denoising", "variation"}]
    assert (context.out / "variation-alike.csv").is_file()
    bare = replace(context, perceptual=None, identity=None)
    evaluate(bare, tasks("variation"), counts=counts)
    assert not (context.out / "variation-alike.csv").exists()
    (context.out / "denoising-error.csv").unlink()
    evaluate(bare, tasks("denoising"), counts=counts)
    assert (context.out / "denoising-error.csv").is_file()


def test_an_outcome_survives_json() -> None:
    table = Table("t", "T", ("a", "b"), (("x", Estimate(1.0, 0.5, 2.0, 9)), ("y", 3)), "note")
    claims = (Claim(5, "not shown", "by numbers", "because"),)
    found = Outcome("denoising", {"model": "key"}, 1.5, 1.2, Result((table,), (), claims, ("a note",)))
    assert Outcome.from_json("denoising", json.loads(json.dumps(found.to_json()))) == found
    skipped = Outcome("denoising", {"model": "key"}, 0.1, 0.1, skipped="reason")
    assert Outcome.from_json("denoising", json.loads(json.dumps(skipped.to_json()))) == skipped


def test_cells_and_csvs_are_read_easily() -> None:
    assert text(Estimate(0.98765, 0.9, 0.999, 3)) == "0.9877 (0.9000 to 0.9990)"
    cells = {1234.5: "1,234", 0.00012: "1.20e-04", 12: "12", None: "", "x": "x", 45.678: "45.68"}
    assert [text(value) for value in cells] == list(cells.values())
    table = Table("t", "T", ("name", "value"), (("a", Estimate(1.0, 0.5, 2.0, 9)), ("b", None)))
    assert csv_rows(table) == [
        ["name", "value", "value low", "value high", "value count"],
        ["a", "1.0", "0.5", "2.0", "9"],
        ["b", "", "", "", ""],
    ]


def test_claims_of_several_tasks_are_put_together() -> None:
    def outcome(verdict, reason: str = "") -> Outcome:
        return Outcome("denoising", {}, result=Result(claims=(Claim(5, verdict, "1 against 2", reason),)))

    both = claim_rows({"a": outcome("shown"), "b": outcome("not shown", "it is small")})
    assert both[4][2:4] == ("partly shown", "1 against 2. 1 against 2. Why not: it is small.")
    assert both[0][2:4] == ("not measured", "The task variation was not run.")
    without = {"interpolation": Outcome("interpolation", {}), "detection": Outcome("detection", {}, skipped="why")}
    assert [claim_rows(without)[place][3] for place in (1, 8)] == [
        "The task interpolation had too little to compare, for instance no DDIM baseline (--ddim) or no latent prior.",
        "The task detection was left out.",
    ]  # fmt: skip
    measured, others = measured_claims({"a": outcome("shown")})
    assert [row[0] for row in measured] == ["5"]
    assert others.startswith("Not measured: claims 1, 2, 3, 4, 6, ")
    assert others.endswith(" and 16.")  # no task was left out
    assert claim_rows({"a": outcome("shown")})[4][2] == "shown"
    assert claim_rows({"a": outcome("not shown"), "b": outcome("not decided")})[4][2] == "not decided"
    assert all(row[4] for row in both)  # the paper's evidence


def test_a_verdict_is_of_all_that_a_claim_says() -> None:
    assert [verdict(True, True), verdict(True, False), verdict(False, False)] == ["shown", "partly shown", "not shown"]
    assert [verdict(True, None), verdict(None, False), verdict(None)] == ["partly shown", "not decided", "not decided"]
