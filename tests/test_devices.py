"""The device that commands compute on."""

from __future__ import annotations

import os

import pytest
import torch
from cli_helpers import one_line

from diffae.cli import main
from diffae.devices import DEVICE, default_device, use_device
from diffae.errors import ConfigError


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the environment, which `use_device` changes."""
    monkeypatch.setenv(DEVICE, "")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_the_default_is_a_gpu_and_can_be_changed() -> None:
    assert default_device().type == "cuda"
    for name in ("cuda:1", "cuda", "cpu"):
        use_device(name)
        assert default_device() == torch.device(name)
    with pytest.raises(ConfigError, match=r"device is 'cuda:2': PyTorch finds cpu, cuda:0, cuda:1 on this machine"):
        use_device("cuda:2")
    with pytest.raises(ConfigError, match="device is 'mps': PyTorch finds"):
        use_device("mps")
    with pytest.raises(ConfigError, match="device is 'gpu': must be cpu, cuda"):
        use_device("gpu")


@pytest.mark.parametrize("words", [["--device", "cpu"], ["--device=cpu"]])
def test_the_option_is_taken_by_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "config"]) == 0
    assert main(["config", *words, "--preset", "small64"]) == 0
    assert os.environ[DEVICE] == "cpu"
    assert "preset: small64" in capsys.readouterr().out


def test_bad_values_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for words, message in (
        (["config", "--device"], "device is missing"),
        (["config", "--device", "warp"], "device is 'warp'"),
        (["config", "--device=cuda:7"], "device is 'cuda:7': PyTorch finds cpu"),
    ):
        assert main(words) == 2
        assert message in one_line(capsys.readouterr().err)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["config", "--device", "cuda:0"]) == 2
    assert "each of several processes takes its own" in capsys.readouterr().err
