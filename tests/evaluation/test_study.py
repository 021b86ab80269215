"""Lengths and counts that fit into a budget, and what they can show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diffae.errors import ConfigError
from diffae.evaluation.costs import Scale, Speeds, seconds_of, work_of
from diffae.evaluation.study import (
    Lengths,
    affordable,
    counts_at,
    in_words,
    outlook,
    plan,
    seconds_in,
    share_within,
    unlimited,
)
from diffae.evaluation.task import counts_of
from diffae.evaluation.tasks import TASK_NAMES, built_in

SPEEDS = Speeds(training=200, baseline=250, prior=50_000, calls=600, encoding=3_000, seeing=300, comparing=100)
SCALE = Scale(train=20_000, test=2_000, attributes=3, levels=1000)
MOST = Lengths(250_000, 2_000_000)


def test_more_time_gives_longer_training_and_larger_counts_and_the_estimate_keeps_to_it() -> None:
    plans = [plan(MOST, SCALE, SPEEDS, hours * 3600) for hours in (1, 3, 12, 2000)]
    for hours, found in zip((1, 3, 12, 2000), plans, strict=True):
        assert found.seconds is not None
        assert found.seconds < hours * 3600
    assert [one.lengths.images for one in plans] == [104_210, 250_000, 250_000, 250_000]
    assert [one.share for one in plans] == sorted(one.share for one in plans)
    assert plans[-1].counts == unlimited(MOST).counts


def test_counts_lie_between_the_quick_and_the_full_ones() -> None:
    quick, full = (counts_of(built_in().values(), quick=q, changes=MOST.changes) for q in (True, False))
    assert counts_at(1, MOST) == full
    least, some = counts_at(0, MOST), counts_at(0.4, MOST)
    assert least["generation"] == quick["generation"]
    assert 48 < some["generation"].distribution < 2000
    assert some["capacity"].capacities == (16, 64)
    assert {some[name].baseline_images for name in ("reconstruction", "attributes")} == {250_000}
    assert least["reconstruction"].learnt == some["attributes"].learnt == 20_000  # baselines are trained once
    assert counts_at(1, Lengths(500, 1))["capacity"].capacity_images == 500


def test_every_task_has_an_estimate_that_grows_with_its_counts() -> None:
    least, most = (seconds_of(counts_at(share, MOST), SCALE, SPEEDS) for share in (0, 1))
    assert list(least) == list(TASK_NAMES)
    assert all(0 < least[name] <= most[name] for name in TASK_NAMES)
    assert work_of("somebody's own", None, SCALE).seconds_at(SPEEDS) == 0


def test_baselines_are_trained_by_the_first_task_that_needs_them() -> None:
    counts = counts_at(0, MOST)
    both = seconds_of(counts, SCALE, SPEEDS)
    alone = seconds_of({"attributes": counts["attributes"]}, SCALE, SPEEDS)
    assert alone["attributes"] - both["attributes"] == pytest.approx(2 * 250_000 / 200)


def test_the_longest_tasks_are_left_out_where_not_even_the_quick_counts_fit() -> None:
    each = seconds_of(counts_at(0, MOST), SCALE, SPEEDS)
    longest = max(each, key=lambda name: each[name])
    assert affordable(sum(each.values()), list(TASK_NAMES), MOST, SCALE, SPEEDS) == list(TASK_NAMES)
    fewer = affordable(sum(each.values()) - 1, list(TASK_NAMES), MOST, SCALE, SPEEDS)
    assert fewer == [name for name in TASK_NAMES if name != longest]
    assert affordable(0, list(TASK_NAMES), MOST, SCALE, SPEEDS) == []
    assert share_within(0, list(TASK_NAMES), MOST, SCALE, SPEEDS) is None


def test_a_budget_too_short_for_anything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget is 2 s: on this machine it must be more than .* see 1,000 images"):
        plan(MOST, SCALE, SPEEDS, 2)


def test_what_a_study_can_decide() -> None:
    full = unlimited(MOST)
    found = {number: what for number, _, what in outlook(full, SCALE, features=True)}
    assert sorted(found) == list(range(1, 17))
    assert found[1] == found[5] == found[11] == "yes"
    assert found[9].startswith("only if it holds: detectors see 2,000 real images, in the paper 7,000")
    bare = {n: what for n, _, what in outlook(full, replace(SCALE, attributes=0), features=False)}
    assert bare[4] == bare[6] == "no: needs --labels"
    assert bare[5] == "no: needs --features"
    short = replace(full, counts={name: own for name, own in counts_at(0, MOST).items() if name != "memorisation"})
    few = {number: what for number, _, what in outlook(short, SCALE, features=True)}
    assert few[7] == "no: memorisation takes too long"
    assert few[5] == "only a large difference, with 48 images"


def test_durations() -> None:
    assert [seconds_in(text) for text in ("2h", "90min", "1h30min", "1.5 h", "45s", "5m")] == [
        7200, 5400, 5400, 5400, 45, 300,
    ]  # fmt: skip
    for wrong in ("", "2", "h", "2x", "0h", "1.2.3h", "-1h"):
        with pytest.raises(ConfigError, match="budget is"):
            seconds_in(wrong)
    assert [in_words(s) for s in (12, 600, 7260)] == ["12 s", "10 min", "2 h 1 min"]
