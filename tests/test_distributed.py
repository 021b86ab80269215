"""A process's place among others, and its share of the work."""

from __future__ import annotations

from pathlib import Path

import job_steps
import pytest
from cli_helpers import one_line
from jobs import run_job

from diffae import distributed
from diffae.cli import main
from diffae.cli.sample import Sample
from diffae.errors import ConfigError


def launch(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    """Set what torchrun sets."""
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(("count", "world_size"), [(10, 3), (2, 4), (0, 2), (7, 1)])
def test_shares_are_all_rows_in_order(monkeypatch: pytest.MonkeyPatch, count: int, world_size: int) -> None:
    rows, sizes = [], []
    for rank in range(world_size):
        launch(monkeypatch, rank, world_size)
        rows += distributed.share(count)
        sizes.append(len(distributed.share(count)))
    assert rows == list(range(count))
    assert max(sizes) - min(sizes) <= 1


def test_a_process_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters set it, without starting four
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.share(5) == range(5)
    distributed.barrier()
    distributed.require_one_process("this")


def test_a_command_that_cannot_be_shared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    launch(monkeypatch, 0, 2)
    with pytest.raises(ConfigError, match="`this` runs in one process, 2 were started"):
        distributed.require_one_process("`this`")
    assert main(["data", "info", "faces.pack"]) == 2
    assert "`diffae data info` runs in one process, 2 were started" in one_line(capsys.readouterr().err)
    launch(monkeypatch, 1, 2)
    assert main(["info", "run"]) == 2
    assert capsys.readouterr().err.startswith("diffae: rank 1: error: ")


def test_processes_take_turns_at_parts() -> None:
    first, second = run_job(job_steps.divide, 5)
    assert first["first"] == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]
    assert second["first"] == []
    for found in (first, second):
        assert found["every"] == [0, 1, 4, 9, 16]
        assert found["error"] == "part 1 cannot be done"  # on both, though one of them did the part
        assert found["given"] == 7
        assert found["alone"] == (1, [0, 1], 1)
        assert found["after"] == (2, 2)


def test_what_is_made_once_is_found_by_the_others(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_job(job_steps.take_turns, log, [tmp_path, tmp_path]) == [True, False]
    assert log.read_text().split() == ["0", "1"]


def test_what_is_made_on_a_local_disk_is_made_once_on_each_host(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    made = run_job(job_steps.take_turns, tmp_path / "log", [one, one, other, other], count=4, hosts=2)
    assert made == [True, False, True, False]


def test_a_process_that_lost_another_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = "[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.213.7.2]:54932. This is typically caused"

    def run(self: object) -> int:
        raise RuntimeError(closed)

    monkeypatch.setattr(Sample, "run", run)
    words = ["sample", "runs/photos", "--out", "a.png"]
    launch(monkeypatch, 0, 2)
    assert main(words) == 2
    assert "another process of this job ended before this one" in one_line(capsys.readouterr().err)
    launch(monkeypatch, 0, 1)
    assert main(words) == 1  # there is no other


def test_networks_are_not_split_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="accelerate is told to use FSDP: every process holds whole networks"):
        distributed.processes()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    assert distributed.processes().num_processes == 1
