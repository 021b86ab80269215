"""Codes files: written, read back, and refused where they are damaged or something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from fingerprints import mark
from safetensors.torch import load_file, save_file

from diffae.config import Sampling
from diffae.errors import CheckpointError
from diffae.latent.codes import StoredCodes, load_codes, save_codes


@pytest.fixture
def codes() -> StoredCodes:
    generator = torch.Generator().manual_seed(0)
    return StoredCodes(
        names=["a/b.png", 'odd "name" ü.jpg'],
        model="0123456789abcdef",
        sampling=Sampling(steps=7, spacing="trailing"),
        z_sem=torch.randn((2, 5), generator=generator),
        x_T=torch.randn((2, 3, 8, 8), generator=generator),
        residual=torch.tensor([1e-5, 2e-5]),
        calls=torch.tensor([31, 32]),
        x_below=torch.randn((2, 3, 8, 8), generator=generator),
    )


def same(a: StoredCodes, b: StoredCodes) -> bool:
    for field in dataclasses.fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if not (torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right):
            return False
    return True


@pytest.mark.parametrize("absent", [(), ("x_below",), ("x_T", "residual", "calls", "x_below"), ("z_sem",)])
def test_saving_and_loading(tmp_path: Path, codes: StoredCodes, absent: tuple[str, ...]) -> None:
    codes = dataclasses.replace(codes, **dict.fromkeys(absent))
    save_codes(tmp_path / "codes.safetensors", codes)
    assert same(load_codes(tmp_path / "codes.safetensors"), codes)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.safetensors"]


def test_other_programs_can_read_them(tmp_path: Path, codes: StoredCodes) -> None:
    save_codes(tmp_path / "codes.safetensors", codes)
    assert codes.z_sem is not None
    assert torch.equal(load_file(tmp_path / "codes.safetensors")["z_sem"], codes.z_sem)


def test_codes_of_another_model_are_refused(codes: StoredCodes) -> None:
    codes.check_model(mark("0123456789abcdef"), Path("codes.safetensors"))
    with pytest.raises(
        CheckpointError, match=r"codes.safetensors belongs to a model with fingerprint 0123.*this one's"
    ):
        codes.check_model(mark("ffff"), Path("codes.safetensors"))


def test_a_missing_or_truncated_file(tmp_path: Path, codes: StoredCodes) -> None:
    path = tmp_path / "codes.safetensors"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_codes(path)
    save_codes(path, codes)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_codes(path)


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="holds no codes"):
        load_codes(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["one"]}, "differ in number"),
        ({"z_sem": torch.full((2, 5), torch.nan)}, "z_sem is not finite"),
        ({"z_sem": None, "x_T": None}, "differ in number"),
        ({"z_sem": torch.tensor(1.0)}, "is damaged"),
        ({"z_sem": torch.zeros(2)}, r"z_sem is \(2,\) of torch.float32"),
        ({"x_T": torch.zeros(2, 3, 8)}, r"x_T is \(2, 3, 8\)"),
        ({"x_T": torch.zeros(2, 3, 8, 8, dtype=torch.int64)}, "x_T is .* of torch.int64"),
        ({"z_sem": torch.zeros(2, 5, dtype=torch.float8_e4m3fn)}, "is damaged"),
        ({"calls": torch.tensor([1.5, 2.5])}, r"calls is \(2,\) of torch.float32"),
    ],
)
def test_damaged_content_is_named(tmp_path: Path, codes: StoredCodes, change: dict, message: str) -> None:
    save_codes(tmp_path / "codes.safetensors", dataclasses.replace(codes, **change))
    with pytest.raises(CheckpointError, match=message):
        load_codes(tmp_path / "codes.safetensors")
