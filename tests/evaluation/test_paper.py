"""The paper's numbers: a typing error shows in the sums, and the tables agree with one another and with the text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from diffae.evaluation.paper import CLAIMED, PAPER, tables_of
from diffae.evaluation.tasks import TASK_NAMES, built_in

CHECKSUMS = {
    "1": 32246817.4095061,
    "2": 85.329,
    "3": 1280.0,
    "4": 2661.42,
    "5": 2950101631.006,
    "6": 8800084052.3548,
    "7": 1337.39,
    "8": 1920316.63,
    "9": 2001.01,
    "10": 9.3823,
    "A.1": 355.84,
    "F": 3861.6,
    "L": 8.5959,
    "A to L": 384252.2238,
}
"""The sum over rows of the row's number, from 1, times the sum of its cells."""


def numbers(cells: tuple) -> list[float]:
    """All numbers in some cells; M stands for a million, and "mean ± deviation" is two numbers."""
    found = []
    for part in " ".join(map(str, cells)).replace("±", " ").split():
        plain = re.sub(r",(?=\d{3}\b)", "", part)  # 10,000; but not the multipliers 1,2,4
        if re.fullmatch(r"\d[\d.,]*(e-\d)?M?", plain):
            millions = 1e6 if plain.endswith("M") else 1
            found += [float(number) * millions for number in plain.removesuffix("M").split(",")]
    return found


def values(number: str, name: str) -> list[float]:
    """The numbers of the row of a table that begins with a name."""
    return next(numbers(row[1:]) for row in PAPER[number].rows if row[0] == name)


@pytest.mark.parametrize("number", PAPER)
def test_the_row_sums_are_those_of_the_paper(number: str) -> None:
    first = 2 if number == "A to L" else 1  # columns of words before the numbers
    sums = [sum(numbers(row[first:])) for row in PAPER[number].rows]
    assert np.dot(np.arange(1, len(sums) + 1), sums) == pytest.approx(CHECKSUMS[number], rel=1e-12)
    assert {len(row) for row in PAPER[number].rows} == {len(PAPER[number].header)}


def test_every_table_is_there_with_a_caption() -> None:
    assert set(PAPER) == {*map(str, range(1, 11)), "A.1", "F", "L", "A to L"} == set(CHECKSUMS)
    assert all(table.title.startswith("In the paper, ") for table in PAPER.values())


def test_z_sem_alone_is_the_same_in_tables_1_and_2() -> None:
    assert values("1", "Diff-AE, T = 100, z_sem alone")[1:] == [0.677, 0.073, 0.007]
    assert values("2", "a) z_sem alone")[3::4] == [0.677, 0.073, 0.007]
    assert values("1", "DDIM, T = 100")[1:] == values("2", "DDIM, 130M images")[3::4]


def test_more_steps_are_never_worse_by_fid_or_lpips() -> None:
    for row in PAPER["4"].rows:
        assert numbers(row[2:]) == sorted(numbers(row[2:]), reverse=True)
    for row in PAPER["2"].rows:
        assert numbers(row[5:9]) == sorted(numbers(row[5:9]), reverse=True)


def test_claim_5_holds_in_the_papers_own_table_at_equal_steps_and_claim_10_does_not() -> None:
    """Claim 5 used to demand that 10 and 20 steps beat DDIM's next larger number, which Table 4 shows in 2 of 8."""
    rows = [numbers(row[2:]) for row in PAPER["4"].rows]
    pairs = list(zip(rows[::3], rows[1::3], strict=True))  # DDIM, Diff-AE
    equal = [ours < ddim for by_ddim, by_ours in pairs for ours, ddim in zip(by_ours, by_ddim, strict=True)]
    fewer = [by_ours[few] < by_ddim[few + 1] for by_ddim, by_ours in pairs for few in (0, 1)]
    assert CLAIMED[5].endswith(f"in {sum(equal)} of {len(equal)} cells of Table 4")
    assert CLAIMED[10].endswith(f"in {sum(fewer)} of {len(fewer)} cells of Table 4")


def test_the_averages_of_table_8_are_those_of_its_rows() -> None:
    *rows, weighted, macro = (numbers(row[1:]) for row in PAPER["8"].rows)
    positives, *areas = np.array(rows).T
    assert len(rows) == 40
    assert weighted == [round(float(np.average(area, weights=positives)), 2) for area in areas]
    assert macro == [round(float(area.mean()), 2) for area in areas]
    assert CLAIMED[4] == "weighted AUROC 0.925, StyleGAN-W 0.891"  # in the text of Section 5.3
    assert [np.average(area, weights=positives) for area in areas] == pytest.approx([0.925, 0.891], abs=5e-4)


def test_each_claim_has_the_papers_evidence_and_each_task_its_tables() -> None:
    assert set(CLAIMED) == {number for task in built_in().values() for number in task.claims}
    assert [table.name for table in tables_of("manipulation")] == ["paper-9", "paper-10"]
    assert {table.name for task in TASK_NAMES for table in tables_of(task)} == {
        f"paper-{number}" for number in (*"1234", *"789", "10", "F", "L")
    }
