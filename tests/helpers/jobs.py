"""Functions run by several processes that know each other, as `torchrun` starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

import pytest

LONGEST_SECONDS = 240


def run_job(function: Callable[..., Any], *args: Any, count: int = 2, hosts: int = 1) -> list[Any]:
    """What `function(*args)` returns in each of so many processes; it is a function of an importable module.

    With several hosts, processes take themselves to be on different ones.

    Raises:
        AssertionError: it raised an error in one of them (its traceback), or took too long.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jobs", "job_steps", "training_run"])
    with pytest.MonkeyPatch.context() as patch:  # Python 3.11's server does not take over sys.path
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    local = count // hosts
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": local, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ends = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_call, args=(end, {**shared, "RANK": rank, "LOCAL_RANK": rank % local}, function, args))
        for rank, (_, end) in enumerate(ends)
    ]
    try:
        for process in processes:
            process.start()
        deadline, results = time.monotonic() + LONGEST_SECONDS, []
        for receiver, _ in ends:
            assert receiver.poll(max(0, deadline - time.monotonic())), "a process takes too long"
            result, error = receiver.recv()
            assert error is None, error
            results.append(result)
        for process in processes:
            process.join(LONGEST_SECONDS)
        return results
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _call(end: Connection, environment: dict[str, Any], function: Callable[..., Any], args: tuple) -> None:
    import torch

    os.environ.update({name: str(value) for name, value in environment.items()})
    torch.set_num_threads(1)  # the order of summation depends on their number
    try:
        end.send((function(*args), None))
    except BaseException:
        end.send((None, traceback.format_exc()))
        raise
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # the first process serves the others until they end
