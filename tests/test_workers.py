"""Processes that compute for the first one."""

from __future__ import annotations

from pathlib import Path

import job_steps
from jobs import run_job


def test_processes_compute_parts_for_the_first_one() -> None:
    first, second = run_job(job_steps.lead, 5)
    assert second is None
    assert first["parts"] == [(0, 1, 10), (1, 5, 2), (0, 9, 10), (1, 13, 2), (0, 17, 10)]  # a view is sent by itself
    assert first["own"] == [(0, 1, 10), (0, 5, 10), (0, 9, 10), (0, 13, 10), (0, 17, 10)]
    assert first["errors"] == ["a is refused", "b is refused"]
    assert (first["processes"], first["after"]) == ((1, 2), 2)


def test_one_process_works_by_itself() -> None:
    [found] = run_job(job_steps.lead, 2, count=1)
    assert found["parts"] == found["own"] == [(0, 1, 4), (0, 5, 4)]
    assert (found["processes"], found["after"]) == ((1, 1), 1)


def test_a_failure_of_the_first_process_releases_the_others() -> None:
    assert run_job(job_steps.lead_into_failure) == ["the images are gone", None]


def test_the_first_process_trains_small_networks_by_itself(tmp_path: Path) -> None:
    [alone] = run_job(job_steps.lead_training, tmp_path / "one", count=1)
    assert run_job(job_steps.lead_training, tmp_path / "two") == [alone, None]
