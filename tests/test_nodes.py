"""Two hosts, each a network namespace, train together; one dies and comes back, and the losses are the same."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import training_run
from training_run import noise_pack

HOSTS = ("10.213.7.1", "10.213.7.2")
LONGEST_SECONDS = 240
TORCHRUN = (
    "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3",
    "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{HOSTS[0]}:29511", "--rdzv-id", "job",
    "--monitor-interval", "0.2",
)  # fmt: skip


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces, joined by a cable."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and the rights of root")
    names = f"diffae-{os.getpid()}-a", f"diffae-{os.getpid()}-b"
    cables = f"dae{os.getpid()}a"[:15], f"dae{os.getpid()}b"[:15]
    try:
        ip("netns", "add", names[0])
        ip("netns", "add", names[1])
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
    except subprocess.CalledProcessError as error:
        remove(names)
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    try:
        for name, cable, address in zip(names, cables, HOSTS, strict=True):
            ip("link", "set", cable, "netns", name)
            inside = ("-n", name)
            ip(*inside, "link", "set", cable, "name", "cable")
            ip(*inside, "addr", "add", f"{address}/24", "dev", "cable")
            ip(*inside, "link", "set", "cable", "up")
            ip(*inside, "link", "set", "lo", "up")
        yield names
    finally:
        remove(names)


def remove(names: tuple[str, str]) -> None:
    for name in names:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "del", name)


def start(host: str, address: str, log: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start torchrun on a host."""
    is_first = int(address == HOSTS[0])  # the namespaces have one host name, by which torchrun would tell
    conf = f"is_host={is_first},keep_alive_interval=1,keep_alive_max_attempt=2,last_call_timeout=1"
    command = ["ip", "netns", "exec", host, sys.executable, *TORCHRUN, "--rdzv-conf", conf, "--local-addr", address]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "cable", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }  # fmt: skip
    with log.open("ab") as file:
        return subprocess.Popen([*command, training_run.__file__, *words], stdout=file, stderr=file, env=environment)


def power_off(host: str) -> None:
    """Kill all processes of a host, at once and without a word."""
    found = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True).stdout.split()
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), 9)


def losses(run: Path) -> dict[int, float]:
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def wait_for(step: int, run: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while step not in losses(run):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_host_that_dies_and_comes_back_changes_nothing(hosts: tuple[str, str], tmp_path: Path) -> None:
    pack, expected, run, log = noise_pack(tmp_path / "pack"), tmp_path / "one", tmp_path / "two", tmp_path / "log"
    alone = [sys.executable, training_run.__file__, str(pack.path), str(expected), "dry"]
    subprocess.run(alone, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    words = (str(pack.path), str(run), "dry", "restart", "pause=0.3")
    first, second = (start(host, address, log, *words) for host, address in zip(hosts, HOSTS, strict=True))
    try:
        wait_for(6, run, first, log)
        power_off(hosts[1])
        second.wait(LONGEST_SECONDS)
        second = start(hosts[1], HOSTS[1], log, *words)
        assert first.wait(LONGEST_SECONDS) == 0, log.read_text()
        assert second.wait(LONGEST_SECONDS) == 0, log.read_text()
    finally:
        for host in hosts:
            power_off(host)
        first.wait()
        second.wait()
    assert "restart" in log.read_text()
    assert losses(run) == pytest.approx(losses(expected), rel=1e-6)
