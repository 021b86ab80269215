"""Names of version 0.1 that still work, each with its warning, and files that version 0.1 wrote."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from custom_parts import MeanConfig, ThinConfig
from safetensors.torch import load_file, save_file
from tiny import images, tiny_config, tiny_model
from torch import Tensor
from training_run import TRAINING, noise_pack

import diffae
from diffae import checkpoint, pretrained
from diffae.config import (
    DiffusionConfig,
    InputConfig,
    ModelConfig,
    Sampling,
    UNetConfig,
    UNetEncoderConfig,
    from_dict,
    to_dict,
)
from diffae.errors import CheckpointError
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import StoredCodes, load_codes, save_codes
from diffae.model import DiffusionAutoencoder
from diffae.training.autoencoder import train_autoencoder
from diffae.training.settings import ContrastiveConfig, DistillationConfig, HOGConfig, TrainingConfig

old_model: Any = ModelConfig
old_training: Any = train_autoencoder
"""Their signatures of version 0.1 are not declared."""

NETWORK: dict[str, Any] = {
    "image_size": 16,
    "image_channels": 3,
    "model_channels": 8,
    "channel_mult": (1, 2),
    "res_blocks": 1,
    "attention_resolutions": (8,),
    "heads": 2,
    "time_channels": 12,
    "dropout": 0.2,
    "z_sem_channels": 6,
    "encoder_channel_mult": (1, 2, 2),
    "encoder_res_blocks": 3,
    "upsampling": "last",
    "encoder_pooling": "flatten",
    "z_map_channels": 3,
}
"""All settings of the networks in version 0.1, none at its default."""

DECODER = UNetConfig(8, (1, 2), 1, (8,), 2, 12, 0.2, "last", 3)
PRESENT = ModelConfig(
    16,
    3,
    DECODER,
    UNetEncoderConfig(6, 8, (1, 2, 2), 3, (8,), 2, "flatten"),
)
"""The same as this version describes them."""


@contextmanager
def warns_here(old: str, new: str, *, here: bool = True) -> Iterator[None]:
    """One deprecation warning, which names both and, unless shapes are checked in between, this file."""
    message = f"{old} is now {new}; the old name will be removed in 0.3"
    with pytest.warns(DeprecationWarning, match=re.escape(message)) as caught:
        yield
    [warning] = caught
    assert str(warning.message) == message
    assert warning.filename == __file__ or not here


# ---------------------------------------------------------------------- settings


def test_network_config() -> None:
    old = diffae.NetworkConfig(**NETWORK)
    with warns_here("ModelConfig(network=...)", "ModelConfig(decoder=..., encoder=...)"):
        assert old_model(old) == PRESENT
    diffusion, given = DiffusionConfig(prediction="v"), InputConfig(crop="celeba")
    with warns_here("ModelConfig(network=...)", "ModelConfig(decoder=..., encoder=...)"):
        assert old_model(old, diffusion, given) == dataclasses.replace(PRESENT, diffusion=diffusion, input=given)
    with warns_here("ModelConfig(network=...)", "ModelConfig(decoder=..., encoder=...)"):
        assert old_model(network=old, diffusion=diffusion) == dataclasses.replace(PRESENT, diffusion=diffusion)
    with warns_here("ModelConfig(network=...)", "ModelConfig(decoder=..., encoder=...)"):
        assert old_model(diffae.NetworkConfig()) == ModelConfig()
    with warns_here("ModelConfig(network=...)", "ModelConfig(decoder=..., encoder=...)"):
        assert old_model(dataclasses.replace(old, z_sem_channels=0)).encoder is None


def test_network_of_a_model_config() -> None:
    with warns_here("ModelConfig.network", "ModelConfig.decoder and ModelConfig.encoder"):
        network = PRESENT.network
    assert network == diffae.NetworkConfig(**NETWORK)
    assert network.has_encoder
    with warns_here("ModelConfig.network", "ModelConfig.decoder and ModelConfig.encoder"):
        assert not ModelConfig(encoder=None).network.has_encoder
    with pytest.warns(DeprecationWarning, match="network"):
        changed = dataclasses.replace(PRESENT, network=dataclasses.replace(network, dropout=0.0))
    assert changed == dataclasses.replace(PRESENT, decoder=dataclasses.replace(DECODER, dropout=0.0))


@pytest.mark.filterwarnings("ignore:ModelConfig.network")
def test_networks_that_version_0_1_did_not_have() -> None:
    for config in (
        ModelConfig(16, decoder=ThinConfig()),
        ModelConfig(16, encoder=MeanConfig()),
        ModelConfig(encoder=UNetEncoderConfig(heads=2)),
    ):
        with pytest.raises(AttributeError):
            _ = config.network


def test_sampling() -> None:
    with warns_here("argument 'grid'", "'spacing'"):
        assert Sampling(grid="trailing") == Sampling(spacing="trailing")  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="'grid' and 'spacing' are the same argument"):
        Sampling(grid="trailing", spacing="leading")  # pyright: ignore[reportCallIssue]
    with warns_here("inversion='pair'", "'bdia'"):
        assert Sampling(inversion="pair") == Sampling(inversion="bdia")


# ---------------------------------------------------------------------- calls


def test_weights_of_auxiliary_losses() -> None:
    with pytest.warns(DeprecationWarning, match=r"TrainingConfig\(contrast=\.\.\.\) is now auxiliary_losses"):
        old = TrainingConfig(contrast=0.2)  # pyright: ignore[reportCallIssue]
    assert old == TrainingConfig(auxiliary_losses=(ContrastiveConfig(0.2),))
    with pytest.warns(DeprecationWarning, match="contrast"):
        assert dataclasses.replace(old, contrast=0.0).auxiliary_losses == ()  # pyright: ignore[reportCallIssue]


def test_networks_of_a_model() -> None:
    model = tiny_model()
    with warns_here("DiffusionAutoencoder.networks", "the model itself, an nn.Module", here=False):
        networks: Any = model.networks
    assert networks is model
    with warns_here("networks.unet", "DiffusionAutoencoder.decoder", here=False):
        assert networks.unet is model.decoder
    assert networks.encoder is model.encoder


def test_watch() -> None:
    model, seen = tiny_model(), list[int]()
    with warns_here("argument 'watch'", "'callback'"):
        model.decode(
            z_sem=torch.zeros(1, 6),
            sampling=Sampling(2, "leading"),
            watch=lambda t, _x: seen.append(t),  # pyright: ignore[reportCallIssue]
        )
    assert seen == [501, 1]


def test_arguments_of_training(tmp_path: Path) -> None:
    pack, model = noise_pack(tmp_path / "noise.pack"), tiny_config()
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(40, 3)))
    config = dataclasses.replace(TRAINING, images=8, val_images=2).with_loss(DistillationConfig, 0.1)
    with pytest.warns(DeprecationWarning, match="argument") as caught:
        old_training(pack=pack, folder=tmp_path / "run", model=model, config=config, vectors=tmp_path / "features.npy")
    assert sorted(str(one.message).partition(";")[0] for one in caught) == [
        "argument 'pack' is now 'images'",
        "argument 'vectors' is now 'features'",
    ]
    assert {one.filename for one in caught} == {__file__}
    assert DiffusionAutoencoder.from_pretrained(tmp_path / "run").config == model


# ---------------------------------------------------------------------- files, which are read without a warning


def config_0_1(folder: Path, network: dict[str, Any], **training: float) -> Path:
    """A config.json of version 0.1."""
    plain = {
        "diffae": "0.1.0",
        "model": {
            "network": network,
            "diffusion": {"schedule": "linear", "levels": 1000, "prediction": "v"},
            "input": {"crop": None, "background": [255, 255, 255], "window": None, "dtype": "uint8"},
        },
        "training": {"images": 96, "batch_size": 8, **training},
    }
    folder.mkdir(exist_ok=True)
    (folder / checkpoint.CONFIG).write_text(json.dumps(plain))
    return folder


def test_networks_in_config_json(tmp_path: Path) -> None:
    found = checkpoint.read_model_config(config_0_1(tmp_path, NETWORK))
    assert found == dataclasses.replace(PRESENT, diffusion=DiffusionConfig(prediction="v"))
    baseline = checkpoint.read_model_config(config_0_1(tmp_path, {**NETWORK, "z_sem_channels": 0}))
    assert baseline.encoder is None
    assert baseline.decoder == dataclasses.replace(DECODER, z_map_channels=0)  # it had no effect
    defaults = checkpoint.read_model_config(config_0_1(tmp_path, {}))
    assert defaults == ModelConfig(diffusion=DiffusionConfig(prediction="v"))


@pytest.mark.parametrize(
    ("weights", "losses"),
    [
        ({}, ()),
        ({"contrast": 0.0, "orientations": 0.0, "teaching": 0.0}, ()),
        ({"contrast": 0.1, "orientations": 0.3, "teaching": 0.0}, (ContrastiveConfig(0.1), HOGConfig(0.3))),
        ({"teaching": 0.2}, (DistillationConfig(0.2),)),
        (
            {"teaching": 0.2, "orientations": 0.5, "contrast": 0.4},
            (ContrastiveConfig(0.4), HOGConfig(0.5), DistillationConfig(0.2)),
        ),
    ],
)
def test_losses_in_config_json(tmp_path: Path, weights: dict[str, float], losses: tuple) -> None:
    plain = checkpoint.read_config(config_0_1(tmp_path, NETWORK, **weights))["training"]
    assert from_dict(TrainingConfig, plain) == TrainingConfig(images=96, batch_size=8, auxiliary_losses=losses)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"grid": "leading", "inversion": "explicit"}, {"spacing": "leading", "inversion": "explicit"}),
        ({"grid": "quadratic", "inversion": "pair"}, {"spacing": "quadratic", "inversion": "bdia"}),
        ({}, {}),
    ],
)
def test_sampling_in_codes_files(tmp_path: Path, old: dict[str, str], new: dict[str, Any]) -> None:
    path = tmp_path / "codes.safetensors"
    texts = {
        "diffae_codes": "1",
        "names": '["a.png"]',
        "model": "0123456789abcdef",
        "sampling": json.dumps({"steps": 7, "clip_x0": False, **old}),
    }
    save_file({"z_sem": torch.zeros(1, 6), "x_T": torch.ones(1, 3, 16, 16)}, path, texts)
    assert load_codes(path).sampling == Sampling(7, **new)


def fingerprint_0_1(network: dict[str, Any], diffusion: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """What version 0.1 computed: the settings that are not at their defaults, and the weights."""
    changed = {name: value for name, value in (("network", network), ("diffusion", diffusion)) if value}
    digest = hashlib.sha256(repr(changed).encode())
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def old_names(model: DiffusionAutoencoder) -> dict[str, Tensor]:
    return {
        "unet." + name.removeprefix("decoder.") if name.startswith("decoder.") else name: tensor
        for name, tensor in model.state_dict().items()
    }


CHANGED = {name: value for name, value in NETWORK.items() if name != "image_channels"}
"""Those of `NETWORK` that are not at their defaults."""


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_fingerprints(prediction: Any) -> None:
    model = tiny_model(PRESENT, prediction)
    diffusion = {} if prediction == "eps" else {"prediction": "v"}
    old, new = fingerprint_0_1(CHANGED, diffusion, old_names(model)), model.fingerprint()
    assert new.matches(old)
    assert new.matches(str(new))
    assert old != new
    other = dict(old_names(model), **{"unet.out.bias": torch.ones(3)})
    for wrong in (
        fingerprint_0_1(CHANGED, diffusion, other),
        fingerprint_0_1({**CHANGED, "heads": 4}, diffusion, old_names(model)),
        fingerprint_0_1(CHANGED, {"schedule": "cosine"}, old_names(model)),
        None,
    ):
        assert not new.matches(wrong)


def test_a_run_folder_with_prior_and_codes(tmp_path: Path) -> None:
    """Weights under their old names, and files that carry the old fingerprint."""
    model, few = tiny_model(PRESENT), Sampling(3, "leading", "explicit")
    config_0_1(tmp_path, NETWORK)
    save_file({name: tensor.contiguous() for name, tensor in old_names(model).items()}, tmp_path / checkpoint.WEIGHTS)
    again = DiffusionAutoencoder.from_pretrained(tmp_path, "cpu")
    assert again.config == model.config
    assert again.fingerprint() == model.fingerprint()
    torch.testing.assert_close(again.encode(images(2), few).x_T, model.encode(images(2), few).x_T)
    mark = fingerprint_0_1(CHANGED, {"prediction": "v"}, old_names(model))
    codes = StoredCodes(["a.png"], mark, few, torch.zeros(1, 6))
    save_codes(tmp_path / "codes.safetensors", codes)
    load_codes(tmp_path / "codes.safetensors").check_model(again.fingerprint(), tmp_path)
    with pytest.raises(CheckpointError, match=f"belongs to a model with fingerprint {mark}"):
        codes.check_model(tiny_model(PRESENT, seed=1).fingerprint(), tmp_path)


def test_the_shipped_model_loads_with_its_prior_and_attributes() -> None:
    """Version 0.1 trained and wrote it."""
    folder = Path(pretrained.__file__).parent / "sketch32"
    assert json.loads((folder / checkpoint.CONFIG).read_text())["diffae"].startswith("0.1")
    model = DiffusionAutoencoder.from_pretrained(folder, "cpu")
    prior = model.require_prior()
    z_sem = prior.sample(2, steps=2, generator=torch.Generator().manual_seed(0))
    directions = AttributeDirections.load(folder, model.fingerprint())
    assert directions.read(z_sem).shape == (2, len(directions.names_))
    assert model.decode(z_sem=z_sem, sampling=Sampling(1)).shape == (2, 3, 32, 32)
    training = from_dict(TrainingConfig, checkpoint.read_config(folder)["training"])
    assert training.auxiliary_losses == ()
    names = load_file(folder / checkpoint.WEIGHTS).keys()
    assert any(name.startswith("unet.") for name in names)
    assert to_dict(model.config)["decoder"]["kind"] == "unet"
