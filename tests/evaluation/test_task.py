"""Counts of tasks: their values, and how they are changed by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from diffae.errors import ConfigError
from diffae.evaluation.results import Result
from diffae.evaluation.task import LabelledCounts, Task, count, counts_of, described, images_needed
from diffae.evaluation.tasks import TASK_NAMES, built_in


@dataclass(frozen=True)
class Counts(LabelledCounts):
    rounds: int = count(1, 7)


MINE = Task("mine", "Mine", "nowhere", lambda context, counts: Result(), Counts)


def test_the_built_in_tasks_have_the_names_of_the_command() -> None:
    assert [task.name for task in built_in().values()] == list(built_in()) == list(TASK_NAMES)


def test_every_claim_has_one_text() -> None:
    texts: dict[int, set[str]] = {}
    for task in built_in().values():
        for number, words in task.claims.items():
            texts.setdefault(number, set()).add(words)
    assert sorted(texts) == list(range(1, 17))
    assert all(len(words) == 1 for words in texts.values())


def test_counts_are_changed_by_name() -> None:
    changed = counts_of(built_in().values(), changes=["detected=500", "capacities=8,16", "labelled=70"])
    assert changed["detection"].detected == 500
    assert changed["capacity"].capacities == (8, 16)
    assert {changed[name].labelled for name in ("capacity", "attributes", "manipulation", "detection")} == {70}
    assert changed["generation"] == counts_of(built_in().values())["generation"]


def test_the_papers_protocol_has_its_own_full_counts() -> None:
    paper = counts_of(built_in().values(), protocol="paper")
    assert (paper["generation"].distribution, paper["conditional"].distribution) == (50_000, 5_000)
    assert (paper["conditional"].draws, paper["conditional"].class_steps, paper["interpolation"].pairs) == (3, 100, 200)
    assert counts_of(built_in().values())["generation"].distribution == 2_000
    assert counts_of(built_in().values(), quick=True, protocol="paper") == counts_of(built_in().values(), quick=True)


def test_a_count_may_be_changed_for_one_task_alone() -> None:
    changed = counts_of(built_in().values(), quick=True, changes=["generation.distribution=30", "distribution=50"])
    assert changed["generation"].distribution == 50  # the last one counts
    changed = counts_of(built_in().values(), quick=True, changes=["out-of-distribution.labelled=30"])
    assert (changed["out-of-distribution"].labelled, changed["attributes"].labelled) == (30, 800)
    assert "out-of-distribution.labelled 30" in described(changed)
    assert "capacities 16, 64," in described(changed)


@pytest.mark.parametrize(
    "wrong",
    ["detectd=5", "detected", "detected=0", "detected=5,6", "detected=-5", "capacities=8,", "mine.detected=5", "=5"],
)
def test_wrong_changes_are_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"counts: {re.escape(repr(wrong))}: must be NAME=NUMBER"):
        counts_of(built_in().values(), changes=[wrong])


def test_a_name_of_different_counts_must_say_whose() -> None:
    tasks = (*built_in().values(), MINE)
    with pytest.raises(ConfigError, match=r"'rounds' is a different count.*write throughput\.rounds or mine\.rounds"):
        counts_of(tasks, changes=["rounds=5"])
    changed = counts_of(tasks, changes=["mine.rounds=5", "labelled=9"])
    assert (changed["mine"].rounds, changed["throughput"].rounds) == (5, 9)
    assert changed["mine"].labelled == 9  # the same count as that of the built-in tasks


def test_counts_may_be_plain_defaults() -> None:
    @dataclass(frozen=True)
    class Plain:
        images: int = 3

    task = Task("mine", "Mine", "nowhere", lambda context, counts: Result(), Plain)
    assert counts_of([task], quick=True)["mine"].images == 3
    assert images_needed(counts_of([task], changes=["images=5"]), "test") == 0


def test_as_many_images_are_needed_as_the_largest_count() -> None:
    counts = counts_of(built_in().values(), quick=True)
    assert (images_needed(counts, "train"), images_needed(counts, "test")) == (1_000, 400)


def test_the_documentation_names_every_count() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    for task in built_in().values():
        for own in fields(task.counts):
            values = own.metadata["quick"], own.default
            quick, full = (", ".join(map(str, v)) if isinstance(v, tuple) else f"{v:,}" for v in values)
            full = "all" if own.name == "known" else full
            assert re.search(rf"^\| `{own.name}` \| [^|]+ \| {quick} \| {full} \|", page, re.MULTILINE), own.name
