"""Run folders: written atomically, and one clear error where they are damaged or belong to another model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from custom_parts import MeanConfig, ThinConfig
from torch import nn

from diffae import __version__, checkpoint
from diffae.checkpoint import Fingerprint
from diffae.config import DiffusionConfig, InputConfig, ModelConfig, UNetConfig, UNetEncoderConfig, from_dict
from diffae.errors import CheckpointError, TrainingError

MODEL = ModelConfig(32, decoder=UNetConfig(heads=2), diffusion=DiffusionConfig("cosine", prediction="v"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


# ------------------------------------------------------------------ atomic writing


def test_written_beside_replaces_the_old_file_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    with checkpoint.written_beside(path) as temporary:
        assert temporary.parents[1] == path.parent  # a rename is atomic only within one file system
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with checkpoint.written_beside(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
        file = temporary.stat().st_ino
    assert path.read_text() == "second"
    assert path.stat().st_ino == file  # renamed, not copied: the change is atomic
    assert files(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("spoilt"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with checkpoint.written_beside(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert files(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / checkpoint.CONFIG
    path.write_text("old")

    def full(self: Path, text: str) -> int:
        self.write_bytes(text[:10].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(
        TrainingError, match=r"cannot write .*config\.json: No space left on device; free some space, or"
    ):
        checkpoint.write_config(tmp_path, MODEL)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert files(tmp_path) == [checkpoint.CONFIG]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"cannot write .*Not a directory; choose another folder"):
        checkpoint.write_tensors(tmp_path / "file" / "run" / "a.safetensors", {}, {})


# ------------------------------------------------------------------ tensors


def test_tensors_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"a": whole.T, "b": torch.tensor([1, 2]), "c": nn.Parameter(torch.ones(2))}  # T is not contiguous
    checkpoint.write_tensors(path, tensors, {"key": "value"})
    read, metadata = checkpoint.read_tensors(path)
    assert metadata == {"key": "value"}
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_missing_tensors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist: name a run folder"):
        checkpoint.read_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 20, 0.5, 0.99])
def test_truncated_tensors(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.write_tensors(path, {"a": torch.ones(100)}, {})
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        checkpoint.read_tensors(path)
    assert "\n" not in str(caught.value)


def test_not_safetensors_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("Once upon a time there was a file that was not what it seemed.")
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read_tensors(path)


# ------------------------------------------------------------------ weights into modules


def weights() -> dict[str, torch.Tensor]:
    return {name: torch.full_like(value, 7) for name, value in nn.Linear(2, 3).state_dict().items()}


def test_load_weights() -> None:
    layer = nn.Linear(2, 3)
    checkpoint.load_weights(layer, weights(), Path("there"))
    assert (layer.weight == 7).all()
    assert (layer.bias == 7).all()


def test_weights_that_do_not_fit_are_named() -> None:
    layer = nn.Linear(2, 3)
    before = layer.weight.clone()
    lacking = weights()
    del lacking["bias"]
    wrong = {**weights(), "bias": torch.zeros(4)}
    cases = [
        (lacking, "there lacks tensor 'bias'"),
        ({**weights(), "extra": torch.zeros(1)}, "there has an unknown tensor 'extra'"),
        (wrong, r"there: 'bias' is \(4,\), not \(3,\)"),
    ]
    for bad, message in cases:
        with pytest.raises(CheckpointError, match=message) as caught:
            checkpoint.load_weights(layer, bad, Path("there"))
        assert str(caught.value).endswith("it belongs to a model of another configuration")
        assert torch.equal(layer.weight, before)  # nothing was loaded


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_kinds_that_no_network_computes_with_are_refused(kind: torch.dtype) -> None:
    weights = {"weight": torch.zeros(3, 2).to(kind), "bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"'weight' is of .*, not float32: no network computes with it"):
        checkpoint.load_weights(nn.Linear(2, 3), weights, Path("model.safetensors"))


def test_weights_of_version_0_1_are_renamed() -> None:
    found = checkpoint.present_names({"unet.out.bias": torch.ones(1), "encoder.unet.bias": torch.zeros(1)})
    assert found == {"decoder.out.bias": torch.ones(1), "encoder.unet.bias": torch.zeros(1)}


def test_frozen_parts_are_not_in_the_file(tmp_path: Path) -> None:
    def made() -> nn.Module:
        module = nn.ModuleDict({"own": nn.Linear(2, 2), "own_frozen": nn.Linear(2, 2), "frozen": nn.Linear(2, 2)})
        module["frozen"].frozen = True  # pyright: ignore[reportArgumentType]
        return module

    module, other = made(), made()
    state = checkpoint.own_state(module)
    assert sorted(state) == ["own.bias", "own.weight", "own_frozen.bias", "own_frozen.weight"]
    before = other.get_parameter("frozen.weight").clone()
    checkpoint.load_weights(other, state, tmp_path)
    assert torch.equal(other.get_parameter("own.weight"), module.get_parameter("own.weight"))
    assert torch.equal(other.get_parameter("frozen.weight"), before)
    with pytest.raises(CheckpointError, match=r"has an unknown tensor 'frozen\.bias'"):
        checkpoint.load_weights(other, module.state_dict(), tmp_path)


# ------------------------------------------------------------------ fingerprints


def test_fingerprint_depends_on_settings_and_weights() -> None:
    weights = {"w": torch.arange(3.0)}
    same = Fingerprint(ModelConfig(), weights)
    assert len(same) == 16
    for config in (
        MODEL,
        ModelConfig(encoder=None),
        ModelConfig(decoder=UNetConfig(heads=2)),
        ModelConfig(encoder=UNetEncoderConfig(heads=2)),
        ModelConfig(encoder=MeanConfig(512)),
        ModelConfig(decoder=ThinConfig()),
        ModelConfig(input=InputConfig(crop="celeba")),
        ModelConfig(diffusion=DiffusionConfig(prediction="v")),
    ):
        assert Fingerprint(config, weights) != same
        assert not Fingerprint(config, weights).matches(same)
    assert Fingerprint(ModelConfig(), {"w": torch.ones(3)}) != same
    assert Fingerprint(ModelConfig(), {"v": torch.arange(3.0)}) != same
    assert Fingerprint(ModelConfig(), {"w": torch.arange(3.0)}).matches(str(same))


def test_a_setting_at_its_default_changes_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a prior still belongs to its model when a later version adds a setting."""

    @dataclass(frozen=True)
    class Later(UNetConfig):
        added: int = 5

    monkeypatch.setattr(Later, "__module__", UNetConfig.__module__)
    weights = {"w": torch.arange(3.0)}
    now = Fingerprint(ModelConfig(decoder=UNetConfig(heads=2)), weights)
    assert Fingerprint(ModelConfig(decoder=Later(heads=2)), weights) == now
    assert Fingerprint(ModelConfig(decoder=Later(heads=2, added=6)), weights) != now


# ------------------------------------------------------------------ config.json


def test_config_round_trip(tmp_path: Path) -> None:
    checkpoint.write_config(tmp_path, MODEL, training={"images": 5})
    assert checkpoint.read_model_config(tmp_path) == MODEL
    plain = checkpoint.read_config(tmp_path)
    assert plain["diffae"] == __version__
    assert plain["training"] == {"images": 5}
    assert (tmp_path / checkpoint.CONFIG).read_text().endswith("}\n")
    assert files(tmp_path) == [checkpoint.CONFIG]


@pytest.mark.parametrize("make", [lambda path: None, os.mkdir, lambda path: path.write_text("a file")])
def test_not_a_run_folder(tmp_path: Path, make) -> None:
    make(tmp_path / "run")
    with pytest.raises(CheckpointError, match="run is not a run folder"):
        checkpoint.read_config(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{half", "is not valid JSON"),
        ("\x00\xff", "is not valid JSON"),
        ("{}", "has no 'model': it was not written by diffae"),
        ("[]", "config.json"),
        ('{"model": 5}', "config.json"),
        ('{"model": {"nonsense": 1}}', "has no setting 'nonsense'"),
        ('{"model": {"network": {"colour": 1}}}', "UNetConfig has no setting 'colour'"),
        ('{"model": {"network": {"heads": 0}}}', "heads is 0: must be at least 1"),
        ('{"model": {"network": {"heads": "two"}}}', "config.json"),
        ('{"model": {"decoder": {"kind": "unet", "heads": [2]}}}', r"heads is \(2,\): must be of type int"),
        ('{"model": {"decoder": {"kind": "dit"}}}', "decoder has kind 'dit'"),
        ('{"model": {"decoder": {"kind": "os:system"}}}', "decoder is 'os:system': is code outside diffae"),
        ('{"model": {"image_size": 32.0}}', "image_size is 32.0: must be of type int"),
        ('{"model": {"network": [1]}}', "ModelConfig has no setting 'network'"),
        ('{"model": {"diffusion": {"schedule": "square"}}}', "schedule is 'square'"),
    ],
)
def test_a_config_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / checkpoint.CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read_model_config(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("version", ["0.3.0", "0.3", "0.10.0", "1.0", "2", 7])
def test_a_config_of_a_newer_version(tmp_path: Path, version: object) -> None:
    (tmp_path / checkpoint.CONFIG).write_text(json.dumps({"diffae": version, "model": {"new setting": 1}}))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read_model_config(tmp_path)
    assert str(caught.value).endswith(f"was written by diffae {version}, newer than this {__version__}: upgrade diffae")


@pytest.mark.parametrize("version", ["0.2.99", "0.1.0", "0.0.1", "unknown", "", "0.x", None])
def test_a_config_of_this_version_or_an_older_one(tmp_path: Path, version: object) -> None:
    (tmp_path / checkpoint.CONFIG).write_text(json.dumps({"diffae": version, "model": {}}))
    assert checkpoint.read_model_config(tmp_path) == ModelConfig()


@pytest.mark.parametrize("depth", [100, 5000, 100_000])
def test_a_config_that_is_nested_deeply(tmp_path: Path, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    (tmp_path / checkpoint.CONFIG).write_text(f'{{"model": {{"image_size": {nested}}}}}')
    with pytest.raises(CheckpointError, match=r"config\.json(:| is not valid JSON)") as caught:
        checkpoint.read_model_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_parts_outside_the_package_need_trust(tmp_path: Path) -> None:
    model = ModelConfig(16, decoder=ThinConfig(), encoder=MeanConfig())
    checkpoint.write_config(tmp_path, model)
    with pytest.raises(CheckpointError, match=r"config\.json: .* is code outside diffae; .* trust_code=True"):
        checkpoint.read_model_config(tmp_path)
    assert checkpoint.read_model_config(tmp_path, trust_code=True) == model


def test_settings_of_an_older_version_take_their_defaults(tmp_path: Path) -> None:
    (tmp_path / checkpoint.CONFIG).write_text(json.dumps({"diffae": "0.0.1", "model": {"network": {"heads": 2}}}))
    assert checkpoint.read_model_config(tmp_path) == from_dict(ModelConfig, {"network": {"heads": 2}})
