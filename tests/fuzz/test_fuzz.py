"""A quick share of the fuzzing: every reader gives one line, or reads, whatever is done to its file. See run.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import supervisor
from planted import FAULTS
from supervisor import GOOD, Supervisor
from targets import targets

CASES = 200


@pytest.fixture(scope="module")
def supervised() -> Iterator[Supervisor]:
    with Supervisor() as found:
        yield found


@pytest.mark.parametrize("name", targets())
def test_the_unchanged_file_is_read(supervised: Supervisor, name: str, tmp_path: Path) -> None:
    """Otherwise mutations of it would test nothing."""
    result = supervised.path(name, targets()[name].write(tmp_path))
    assert result.kind == "ok", result


def test_mutated_files_give_one_line(supervised: Supervisor) -> None:
    names = list(targets())
    results = [supervised.case(names[turn % len(names)], turn // len(names)) for turn in range(CASES)]
    assert [result for result in results if result.kind not in GOOD] == []
    assert {result.kind for result in results} == set(GOOD)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next case runs in a worker that works."""
    monkeypatch.setattr(supervisor, "SECONDS", 2)
    (tmp_path / "deep").mkdir()
    with Supervisor("planted") as faulty:
        assert faulty.path(kind, tmp_path / "deep" / "a").kind == kind
        assert faulty.path("good", tmp_path / "deep" / "a").kind == "ok"
