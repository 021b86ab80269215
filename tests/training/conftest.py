"""One pack of noise, one uninterrupted run, and runs in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import training_run

from diffae.data.pack import Pack


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the runs in other processes: the order of summation depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """40 images of noise."""
    return training_run.noise_pack(tmp_path_factory.mktemp("data") / "noise.pack")


Start = Callable[..., BaseProcess]


@pytest.fixture(scope="session")
def start(pack: Pack) -> Start:
    """Start `training_run` with a run folder and further words, in a process that is forked from one that has imported
    everything; `environment` is added to its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_run"])
    with pytest.MonkeyPatch.context() as patch:  # Python 3.11's server does not take over sys.path
        patch.setenv("PYTHONPATH", str(Path(training_run.__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()

    def started(run: Path, *how: str, environment: dict[str, str] | None = None) -> BaseProcess:
        process = context.Process(target=training_run.main, args=([str(pack.path), str(run), *how], environment))
        process.start()
        return process

    return started


@pytest.fixture(scope="session")
def uninterrupted(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with a log line for every step."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    process = start(run)
    process.join(240)
    assert process.exitcode == 0
    return run
