"""Kept copies of a model in other precisions, and compiled ones."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import normal, tiny_model
from torch import nn

from diffae.config import Sampling
from diffae.model import runtime
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import use_bfloat16

BFLOAT16 = Sampling(2, precision="bfloat16")


def test_one_copy_is_kept_for_each_precision() -> None:
    model = tiny_model()
    halved = model._as(BFLOAT16)
    assert (halved.dtype, model.dtype) == (torch.bfloat16, torch.float32)
    assert model._as(BFLOAT16) is halved
    assert model._as(Sampling(2, precision="float64")) is not halved
    assert model._as(Sampling(2)) is model


def test_copies_follow_the_weights() -> None:
    model, x_T, z_sem = tiny_model(), normal(1, 3, 16, 16), normal(1, 6)
    before = model.decode(z_sem=z_sem, x_T=x_T, sampling=BFLOAT16)
    with torch.no_grad():
        model.decoder.get_parameter("out.weight").mul_(2)
    after = model.decode(z_sem=z_sem, x_T=x_T, sampling=BFLOAT16)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, model.decode(z_sem=z_sem, x_T=x_T, sampling=Sampling(2)), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("supported", [True, False])
def test_emulated_bfloat16_is_warned_of(
    supported: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "supports_bfloat16", lambda device: supported)
    model = tiny_model()
    with caplog.at_level(logging.WARNING, "diffae"):
        for _ in range(2):
            model.decode(z_sem=normal(1, 6), sampling=BFLOAT16)
    assert [record.message for record in caplog.records] == (
        [] if supported else ["bfloat16 is emulated by this CPU: float32 is faster and exact"]
    )


@pytest.mark.parametrize(
    ("hardware", "onednn", "expected"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_bfloat16_needs_hardware_that_onednn_may_use(
    hardware: bool, onednn: bool, expected: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": hardware}, raising=False)
    monkeypatch.setattr(runtime, "_onednn_has_bfloat16", lambda: onednn)
    assert runtime.supports_bfloat16(cpu) is expected
    with caplog.at_level(logging.WARNING, "diffae"):
        assert use_bfloat16(TrainingConfig(), cpu) is expected
        assert not caplog.records
        assert use_bfloat16(TrainingConfig(precision="bfloat16"), cpu)  # it was asked for
    assert len(caplog.records) == (0 if expected else 1)


def test_compiled_parts_share_the_weights() -> None:
    model = tiny_model()
    compiled = model._as(Sampling(compile="eager"))
    assert isinstance(compiled.decoder, nn.Module)
    assert {id(p) for p in compiled.parameters()} == {id(p) for p in model.parameters()}
    assert model._as(Sampling(compile="eager")) is compiled
    assert model._as(Sampling(compile="aot_eager")) is not compiled


SCRIPT = """
import torch
from tiny import normal, tiny_model
from diffae.config import Sampling
from diffae.errors import ConfigError

model, x_T, z_sem = tiny_model(), normal(2, 3, 16, 16), normal(2, 6)
compiled = Sampling(1, compile="eager")
expected = model.decode(z_sem=z_sem, x_T=x_T, sampling=Sampling(1))
torch.testing.assert_close(model.decode(z_sem=z_sem, x_T=x_T, sampling=compiled), expected)

class Breaks(torch.nn.Linear):
    def forward(self, x, time, z):
        torch._dynamo.graph_break()
        return x

model.decoder = Breaks(1, 1)
try:
    model.decode(z_sem=z_sem, x_T=x_T, sampling=compiled)
except ConfigError as error:
    print(error)
"""


def test_compiled_networks_agree_and_those_that_break_are_refused() -> None:
    """In a process of its own, where the shape checks of these tests are not installed."""
    helpers = str(Path(__file__).parent / "helpers")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.startswith("compile: the decoder cannot be compiled ("), done.stderr
    assert done.stdout.endswith("); set compile=False\n")
    assert done.stdout.count("\n") == 1
