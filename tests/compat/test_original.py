"""Published checkpoints, written here under the published names: read back exactly, or refused without running code."""

from __future__ import annotations

import functools
import json
import pickle
import re
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from published import (
    STATS,
    D,
    config_of,
    latent_net,
    latent_tensors,
    model_of,
    published_tensors,
    write,
    write_classifier,
    write_stats,
)
from tiny import images, normal, tiny_model

from diffae.compat.original import reading
from diffae.compat.original.architecture import Facts, model_config
from diffae.compat.original.files import File
from diffae.compat.original.names import autoencoder_names, latent_names
from diffae.config import ModelConfig, UNetConfig
from diffae.errors import CheckpointError, ConfigError
from diffae.model import DiffusionAutoencoder

ARCHITECTURES = [
    config_of(),
    config_of(heads=2),
    config_of(channel_mult=(1,), encoder_channel_mult=(1, 3), attention_resolutions=()),
    config_of(channel_mult=(1, 1, 2), encoder_channel_mult=(1, 1, 2, 2), res_blocks=2, encoder_res_blocks=2),
    config_of(channel_mult=(2, 1), encoder_channel_mult=(1,), attention_resolutions=(16, 8)),
    config_of(channel_mult=(1, 1, 1), attention_resolutions=(16, 4), res_blocks=3, encoder_res_blocks=3),
    config_of(channel_mult=(1,), attention_resolutions=(8,)),  # a resolution that only the encoder has
    config_of(image_channels=1, z_sem_channels=3, time_channels=5),
    config_of(model_channels=8, channel_mult=(1, 1)),
    config_of(z_sem_channels=0, encoder_channel_mult=(1, 2)),
    config_of(z_sem_channels=0, channel_mult=(1, 1, 2), encoder_channel_mult=(1, 1, 2), res_blocks=2,
            encoder_res_blocks=2),
]  # fmt: skip


def heads_of(config: ModelConfig) -> int:
    assert isinstance(config.decoder, UNetConfig)
    assert config.encoder is None or getattr(config.encoder, "heads", None) == config.decoder.heads
    return config.decoder.heads


def dropout_of(config: ModelConfig) -> float:
    assert isinstance(config.decoder, UNetConfig)
    return config.decoder.dropout


def require_equal(model: DiffusionAutoencoder, original: DiffusionAutoencoder) -> None:
    weights = original.state_dict()
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("config", ARCHITECTURES)
def test_read_back(tmp_path: Path, config: ModelConfig) -> None:
    original = model_of(config)
    path = write(tmp_path / "last.ckpt", published_tensors(original))
    model = DiffusionAutoencoder.from_official(path, num_heads=heads_of(config)).to("cpu")
    assert model.config == original.config
    assert model.prior is None
    require_equal(model, original)


def test_the_model_computes_the_same(tmp_path: Path) -> None:
    original = model_of(config_of(heads=2))
    model = DiffusionAutoencoder.from_official(write(tmp_path / "last.ckpt", published_tensors(original)), 2).to("cpu")
    x_0 = images(2)
    z_sem = original.encode_semantic(x_0)
    assert torch.equal(model.encode_semantic(x_0), z_sem)
    with torch.inference_mode():
        assert torch.equal(model.predict_noise(x_0, 300, z_sem), original.predict_noise(x_0, 300, z_sem))


def test_names_are_those_of_the_published_networks(shared: Path) -> None:
    """Every name and shape that the published code stores, for every architecture of the paper."""
    for path in sorted((shared / "parity").glob("*.json")):
        about = json.loads(path.read_text())
        expected = {name: tuple(shape) for name, shape in about["parameters"].items()}
        tensors = {name: torch.empty(shape, device="meta") for name, shape in expected.items()}
        if about["kind"] == "latent":
            found = latent_names(*(about["config"][key] for key in ("z_sem_channels", "hidden_channels", "layers")))
        else:
            facts = Facts(image_size=about["config"]["image_size"])
            found = autoencoder_names(model_config(tensors, facts))
        assert {name: here.published_shape for name, here in found.items()} == expected


# ------------------------------------------------------------------ facts that tensors do not reveal


def test_heads_must_be_stated(tmp_path: Path) -> None:
    original = model_of(config_of(heads=2))
    path = write(tmp_path / "last.ckpt", published_tensors(original))
    one, x_0 = DiffusionAutoencoder.from_official(path).to("cpu"), images(2)
    assert heads_of(one.config) == 1
    assert not torch.allclose(one.encode_semantic(x_0), original.encode_semantic(x_0))


def test_settings_in_the_checkpoint(tmp_path: Path) -> None:
    settings = {"net_beatgans_attn_head": 4, "beta_scheduler": "cosine", "T": 100, "dropout": 0.2, "img_size": 99}
    tensors = published_tensors(model_of())
    path = write(tmp_path / "last.ckpt", tensors, hyper_parameters=settings)
    config = DiffusionAutoencoder.from_official(path).config
    assert (heads_of(config), dropout_of(config), config.image_size) == (4, 0.2, 16)  # x_T's size
    assert (config.diffusion.schedule, config.diffusion.levels) == ("cosine", 100)
    config = DiffusionAutoencoder.from_official(path, 2, schedule="linear", levels=50, dropout=0.0).config
    assert (heads_of(config), dropout_of(config)) == (2, 0.0)  # arguments take precedence
    assert (config.diffusion.schedule, config.diffusion.levels) == ("linear", 50)
    path = write(path, tensors, hyper_parameters={"beta_scheduler": "const0.01"})
    with pytest.raises(
        CheckpointError, match=r"beta_scheduler is 'const0\.01' .* known are linear, cosine, const0\.008"
    ):
        DiffusionAutoencoder.from_official(path)


def test_residual_blocks_of_the_encoder_can_be_stated(tmp_path: Path) -> None:
    original = model_of(config_of(res_blocks=2, encoder_res_blocks=1))
    path = write(tmp_path / "last.ckpt", published_tensors(original))
    with pytest.raises(CheckpointError, match=r"'ema_model\.encoder\."):
        DiffusionAutoencoder.from_official(path)
    model = DiffusionAutoencoder.from_official(path, encoder_res_blocks=1).to("cpu")
    assert model.config == original.config
    require_equal(model, original)


def test_image_size(tmp_path: Path) -> None:
    original = model_of(config_of(attention_resolutions=()))
    path = write(tmp_path / "last.ckpt", published_tensors(original), size=None)
    with pytest.raises(CheckpointError, match=r"does not say its image size \(no x_T\): give image_size"):
        DiffusionAutoencoder.from_official(path)
    model = DiffusionAutoencoder.from_official(path, image_size=32).to("cpu")
    assert model.image_shape == (3, 32, 32)
    assert model.encode_semantic(images(1, size=32)).shape == (1, D)


def test_widths_with_other_groups_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt", published_tensors(tiny_model(prediction="eps")))  # 8 + 16 channels meet
    with pytest.raises(CheckpointError, match="24 channels are normalised in 8 groups here"):
        DiffusionAutoencoder.from_official(path)


# ------------------------------------------------------------------ latent nets, statistics, classifiers


def with_latent(path: Path, **more: Any) -> Path:
    tensors = {**published_tensors(model_of()), **latent_tensors(latent_net())}
    return write(path, tensors, **{**STATS, **more})


@pytest.mark.parametrize("files", ["one", "two"])
def test_latent_net(tmp_path: Path, files: str) -> None:
    latent = with_latent(tmp_path / "latent.ckpt")
    path = latent if files == "one" else write(tmp_path / "last.ckpt", published_tensors(model_of()))
    model = DiffusionAutoencoder.from_official(path, latent=latent if files == "two" else None).to("cpu")
    require_equal(model, model_of())
    prior = model.require_prior()
    assert (prior.config.layers, prior.config.hidden_channels, prior.config.loss) == (4, 16, "l1")
    assert (prior.config.diffusion.schedule, prior.config.diffusion.levels) == ("constant", 1000)
    expected = latent_net().state_dict()
    assert prior.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in prior.network.state_dict().items())
    assert torch.equal(prior.mean, STATS["conds_mean"][0])
    assert torch.equal(prior.std, STATS["conds_std"][0])


def test_the_time_projection_that_counts_is_the_one_loaded_last(tmp_path: Path) -> None:
    tensors = latent_tensors(latent_net())
    tensors["latent_net.layers.1.linear_emb.weight"] = torch.zeros(16, D)
    path = write(tmp_path / "latent.ckpt", {**published_tensors(model_of()), **tensors}, **STATS)
    found = DiffusionAutoencoder.from_official(path).require_prior().network.get_parameter("layers.1.time.weight")
    assert torch.equal(found.cpu(), latent_net().get_parameter("layers.1.time.weight"))


def test_settings_of_a_latent_net(tmp_path: Path) -> None:
    path = with_latent(tmp_path / "a.ckpt", hyper_parameters={"latent_beta_scheduler": "linear", "T": 200})
    diffusion = DiffusionAutoencoder.from_official(path).require_prior().config.diffusion
    assert (diffusion.schedule, diffusion.levels) == ("linear", 200)
    prior = DiffusionAutoencoder.from_official(path, prior_schedule="constant").require_prior()
    assert prior.config.diffusion.schedule == "constant"
    # "linear" in the autoencoder's own file does not apply to the latent net in another
    main = write(tmp_path / "b.ckpt", published_tensors(model_of()),
                 hyper_parameters={"latent_beta_scheduler": "linear"})  # fmt: skip
    other = DiffusionAutoencoder.from_official(main, latent=with_latent(tmp_path / "c.ckpt"))
    assert other.require_prior().config.diffusion.schedule == "constant"
    path = with_latent(tmp_path / "a.ckpt", hyper_parameters={"net_latent_condition_bias": 0})
    with pytest.raises(CheckpointError, match="was trained with net_latent_condition_bias = 0: only 1"):
        DiffusionAutoencoder.from_official(path)


def test_statistics_come_from_the_checkpoint_or_from_latent_pkl(tmp_path: Path) -> None:
    tensors = {**published_tensors(model_of()), **latent_tensors(latent_net())}
    bare = write(tmp_path / "bare.ckpt", tensors)
    with pytest.raises(CheckpointError, match=r"lacks tensor 'conds_mean': give the latent\.pkl"):
        DiffusionAutoencoder.from_official(bare)
    stats = write_stats(tmp_path / "latent.pkl")
    prior = DiffusionAutoencoder.from_official(bare, stats=stats).require_prior()
    assert torch.equal(prior.mean.cpu(), STATS["conds_mean"][0])
    both = with_latent(tmp_path / "both.ckpt")
    assert DiffusionAutoencoder.from_official(both, stats=stats).prior is not None
    with pytest.raises(CheckpointError, match=r"other\.pkl differs from what .*both\.ckpt was trained with"):
        DiffusionAutoencoder.from_official(both, stats=write_stats(tmp_path / "other.pkl", 1.1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conds_mean": torch.zeros(D)}, r"'conds_std' is absent, it must be \(6,\)"),
        ({"conds_mean": torch.zeros(D - 1), "conds_std": torch.ones(D)}, r"'conds_mean' is \(5,\), it must be \(6,\)"),
        ({"conds_mean": torch.zeros(D), "conds_std": torch.zeros(D)}, "conds_std above 0"),
        ({"conds_mean": torch.full((D,), torch.nan), "conds_std": torch.ones(D)}, "conds_mean must be finite"),
        ([1], "it holds no dict, but list"),
    ],
)
def test_bad_statistics(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "latent.pkl")
    with pytest.raises(CheckpointError, match=message):
        DiffusionAutoencoder.from_official(
            with_latent(tmp_path / "latent.ckpt", **dict.fromkeys(STATS)), stats=tmp_path / "latent.pkl"
        )


def test_a_latent_net_of_another_autoencoder_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt", published_tensors(model_of(seed=1)))
    with pytest.raises(CheckpointError, match=r"has another autoencoder \('ema_model\.encoder\..*import it alone"):
        DiffusionAutoencoder.from_official(path, latent=with_latent(tmp_path / "latent.ckpt"))
    smaller = write(tmp_path / "small.ckpt", published_tensors(model_of(config_of(z_sem_channels=5))))
    alone = write(tmp_path / "latent.ckpt", latent_tensors(latent_net()), **STATS)
    with pytest.raises(CheckpointError, match="a latent net for z_sem of 6 numbers: the autoencoder's have 5"):
        DiffusionAutoencoder.from_official(smaller, latent=alone)
    with pytest.raises(CheckpointError, match=r"has no tensors named ema_model\.latent_net\.\*"):
        DiffusionAutoencoder.from_official(path, latent=path)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("layers.2.cond_layers.1.bias", None, r"lacks tensor 'ema_model\.latent_net\.layers\.2\.cond_layers\.1\.bias'"),
        ("layers.0.linear.weight", None, r"tensor 'layers\.0\.linear\.weight' is missing"),
        ("layers.1.novelty", torch.zeros(1), r"unknown tensor 'ema_model\.latent_net\.layers\.1\.novelty'"),
        ("layers.2.linear.weight", torch.zeros(16, 16),
         r"'ema_model\.latent_net\.layers\.2\.linear\.weight' is \(16, 16\) of float32, it must be \(16, 22\)"),
        ("time_embed.0.weight", torch.zeros(D, 32), r"time_embed\.0\.weight' is \(6, 32\) of float32, .* \(6, 64\)"),
    ],
)  # fmt: skip
def test_bad_latent_nets(tmp_path: Path, name: str, tensor: Any, message: str) -> None:
    tensors = {**latent_tensors(latent_net()), f"latent_net.{name}": tensor}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    path = write(tmp_path / "latent.ckpt", {**published_tensors(model_of()), **tensors}, **STATS)
    with pytest.raises(CheckpointError, match=message):
        DiffusionAutoencoder.from_official(path)


def test_classifier(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "cls.ckpt")
    found = reading.read_classifier(path, D)
    assert len(found.names) == 40
    assert (found.names[0], found.names[24], found.names[-1]) == ("5_o_Clock_Shadow", "No_Beard", "Young")
    assert torch.equal(found.weight, normal(40, D, seed=7))  # the raw weights, which the published code edits with
    assert torch.equal(found.bias, normal(40, seed=8))
    assert torch.equal(found.statistics.mean, STATS["conds_mean"][0])
    assert torch.equal(reading.read_classifier(path, D, which="ema").weight, normal(40, D, seed=9))
    few = write_classifier(tmp_path / "few.ckpt", 2)
    assert reading.read_classifier(few, D, names=["red", "blue"]).names == ("red", "blue")
    with pytest.raises(ConfigError, match=r"attribute_names is 40: .* classifies 2 attributes"):
        reading.read_classifier(few, D)
    with pytest.raises(ConfigError, match="as many different names are needed"):
        reading.read_classifier(few, D, names=["red", "red"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier.weight": None}, r"lacks tensor 'classifier\.weight'"),
        ({"classifier.bias": None}, r"lacks tensor 'classifier\.bias'"),
        ({"classifier.weight": torch.zeros(40, 5)}, r"'classifier\.weight' is \(40, 5\) of float32, .* \(40, 6\)"),
        ({"classifier.weight": torch.zeros(40, D).long()}, r"'classifier\.weight' is \(40, 6\) of int64"),
        ({"conds_std": None}, r"lacks tensor 'conds_std'"),
        ({"conds_std": None, "conds_mean": None}, r"lacks tensor 'conds_mean': give the latent\.pkl"),
        ({"backbone.weight": torch.zeros(1)}, r"has an unknown tensor 'backbone\.weight'"),
        ({"classifier.weights": torch.zeros(1)}, r"has an unknown tensor 'classifier\.weights'"),
    ],
)
def test_bad_classifiers(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        reading.read_classifier(write_classifier(tmp_path / "cls.ckpt", **changes), D)


# ------------------------------------------------------------------ bad input


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("how", ["torch", "pickle", "stats"])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "last.ckpt"
    more: dict[str, Any] = {}
    code: dict[str, Any] = {"callback": Malicious(trace)} if how == "torch" else {}
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()  # plain pickle runs it
    trace.unlink()
    if how == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Malicious(trace)}, protocol=2))
    else:
        write(path, published_tensors(model_of()), **code)
    if how == "stats":
        torch.save({"conds_mean": torch.zeros(D), "conds": Malicious(trace)}, tmp_path / "latent.pkl")
        more = {"stats": tmp_path / "latent.pkl", "latent": write(path, {**published_tensors(model_of()),
                **latent_tensors(latent_net())})}  # fmt: skip
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values, so it is not read: it names"):
        DiffusionAutoencoder.from_official(path, **more)
    assert not trace.exists()


def test_the_class_that_lightning_names_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning 1.4, which wrote the published files, uses a class as a key of its callbacks' states."""

    class ModelCheckpoint:
        def __reduce__(self) -> Any:
            return ModelCheckpoint, ()

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = module.__name__, "ModelCheckpoint"
    vars(module)["ModelCheckpoint"] = ModelCheckpoint
    parents = {name: types.ModuleType(name) for name in ("pytorch_lightning", "pytorch_lightning.callbacks")}
    original, path = model_of(), tmp_path / "last.ckpt"
    with monkeypatch.context() as patched:
        for name, one in {**parents, module.__name__: module}.items():
            patched.setitem(sys.modules, name, one)
        write(path, published_tensors(original), callbacks={ModelCheckpoint: {"dirpath": "checkpoints"}})
        write(tmp_path / "made.ckpt", published_tensors(original), callbacks=[ModelCheckpoint()])
    require_equal(DiffusionAutoencoder.from_official(path).to("cpu"), original)
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        DiffusionAutoencoder.from_official(tmp_path / "made.ckpt")  # a name is allowed, a call is not


@pytest.mark.parametrize("name", ["evil.pkl", "photo.jpg", "x", "damaged.ckpt", "script.pt"])
def test_no_refusal_advises_to_read_without_protection(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "damaged.ckpt":  # before it was zipped: its checksums are right
        torch.save({"state_dict": {}}, tmp_path / "whole.ckpt")
        with zipfile.ZipFile(tmp_path / "whole.ckpt") as whole, zipfile.ZipFile(path, "w") as damaged:
            for part in whole.namelist():
                damaged.writestr(part, whole.read(part).replace(b"\x80\x02}", b"\x80\x02\xb6"))
    elif name == "script.pt":
        with zipfile.ZipFile(path, "w") as script:
            for part in ("data.pkl", "constants.pkl", "version"):
                script.writestr(f"script/{part}", b"1\n")
    else:
        code = pickle.dumps({"state_dict": Malicious(tmp_path / "trace")}, protocol=4)
        path.write_bytes({"evil.pkl": code, "photo.jpg": b"\xff\xd8\xff\xe0"}.get(name, b"x"))
    with pytest.raises(CheckpointError) as caught:
        DiffusionAutoencoder.from_official(path)
    told = str(caught.value)
    assert "\n" not in told
    assert "Re-running" not in told
    assert not re.search("weights.only", told, re.IGNORECASE)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    expected = {"evil.pkl": r"is damaged, or holds more than tensors .* \(Unsupported operand 149\)",
                "damaged.ckpt": r"is damaged, or holds more than tensors .* \(Unsupported operand 182\)",
                "script.pt": "is damaged, truncated or not a checkpoint"}  # fmt: skip
    assert re.search(
        expected.get(name, f"{name} is not a checkpoint: it begins neither as a zip nor as a pickle"), told
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_checkpoint_that_was_zipped_again(tmp_path: Path, compression: int) -> None:
    original = model_of()
    write(tmp_path / "first.ckpt", published_tensors(original))
    with (
        zipfile.ZipFile(tmp_path / "first.ckpt") as first,
        zipfile.ZipFile(tmp_path / "last.ckpt", "w", compression) as again,
    ):
        for part in first.namelist():
            again.writestr(part, first.read(part))
    require_equal(DiffusionAutoencoder.from_official(tmp_path / "last.ckpt").to("cpu"), original)


def test_flipped_bits_are_refused(tmp_path: Path) -> None:
    tensors = published_tensors(model_of())
    path = write(tmp_path / "last.ckpt", tensors)
    data = bytearray(path.read_bytes())
    where = data.index(tensors["time_embed.time_embed.0.weight"].numpy().tobytes()) + 5
    data[where : where + 2] = bytes(255 - octet for octet in data[where : where + 2])
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged, .* \(the checksum of its part last/data/\d+ is"):
        DiffusionAutoencoder.from_official(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_tensors_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    tensors = published_tensors(model_of())
    tensors["time_embed.time_embed.0.bias"][3] = value
    message = r"'ema_model\.time_embed\.time_embed\.0\.bias' has values that are not finite"
    with pytest.raises(CheckpointError, match=message):
        DiffusionAutoencoder.from_official(write(tmp_path / "last.ckpt", tensors))


@pytest.mark.parametrize("name", ["x_Tnonsense", "conds_meanX", "modelling.weight"])
def test_buffers_of_nearly_the_right_name_are_refused(tmp_path: Path, name: str) -> None:
    more: dict[str, Any] = {name: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=f"has an unknown tensor '{name}'"):
        DiffusionAutoencoder.from_official(write(tmp_path / "last.ckpt", published_tensors(model_of()), **more))


@pytest.mark.parametrize("shape", [(4, 3, 16, 24), (4, 1, 16, 16), (3, 16, 16)])
@pytest.mark.parametrize("image_size", [None, 16])
def test_an_x_T_of_other_images_is_refused(tmp_path: Path, shape: tuple[int, ...], image_size: int | None) -> None:
    path = write(tmp_path / "last.ckpt", published_tensors(model_of()), x_T=torch.zeros(shape))
    message = rf"'x_T' is {re.escape(str(shape))}, it must be \(images, 3, size, size\): get the file again"
    with pytest.raises(CheckpointError, match=message):
        DiffusionAutoencoder.from_official(path, image_size=image_size)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "last.ckpt", published_tensors(model_of()))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged, truncated or not a checkpoint") as caught:
        DiffusionAutoencoder.from_official(path)
    assert "\n" not in str(caught.value)


def test_damaged_bytes(tmp_path: Path) -> None:
    """Damage anywhere in a pickle is one clear error."""
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"ema_model.a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for where in range(0, len(data), 9):
        path.write_bytes(data[:where] + b"\xb6" + data[where + 1 :])
        with pytest.raises(CheckpointError):
            DiffusionAutoencoder.from_official(path, image_size=16)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist: give the path of a published"):
        DiffusionAutoencoder.from_official(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="does not exist"):
        DiffusionAutoencoder.from_official(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1)}, "not a published checkpoint: get another file"),
        ({"conds_mean": torch.zeros(1)}, r"it looks like a latent\.pkl; give it as stats"),
        ([1, 2], "not a published checkpoint"),
        (torch.zeros(3), "not a published checkpoint"),
        ({"state_dict": 5}, "not a published checkpoint"),
        ({"state_dict": {"weight": torch.zeros(1)}}, "has an unknown tensor 'weight'"),
        ({"state_dict": {3: torch.zeros(1)}}, "has an unknown tensor 3"),
        ({"state_dict": {"model.weight": torch.zeros(1)}}, r"no tensors named ema_model\.\*"),
        ({"state_dict": {"ema_model.time_embed.0.weight": "text"}}, r"no tensors named ema_model\.\*"),
        (
            {"state_dict": {"ema_model.time_embed.0.weight": torch.zeros(1), "x_T": torch.zeros(1, 3, 8, 8)}},
            "odd shapes",
        ),
        ({"state_dict": {"ema_model.weight": torch.zeros(1), "x_T": torch.zeros(1, 3, 8, 8)}}, "time_embed"),
    ],
)
def test_other_files(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        DiffusionAutoencoder.from_official(path)


@pytest.mark.parametrize("config", [ARCHITECTURES[0], ARCHITECTURES[9]], ids=["encoder", "ddim"])
def test_any_missing_tensor_is_named(config: ModelConfig) -> None:
    tensors = published_tensors(model_of(config))
    names = functools.cache(autoencoder_names)

    def check(file: File) -> None:
        own = file.under("ema_model.")
        found = names(model_config(own, Facts(image_size=16)))
        file.require(own, {there: here.published_shape for there, here in found.items()}, "ema_model.")

    for name in tensors:
        rest = {f"ema_model.{other}": tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(CheckpointError, match=rf"'(ema_model\.)?{re.escape(name)}'"):
            check(File(Path("last.ckpt"), {}, rest))


def test_unknown_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    tensors = published_tensors(model_of())
    path = tmp_path / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"has an unknown tensor 'ema_model\.novelty\.weight'"):
        DiffusionAutoencoder.from_official(write(path, {**tensors, "novelty.weight": torch.zeros(1)}))
    name = "middle_block.2.out_layers.3.bias"
    with pytest.raises(
        CheckpointError, match=rf"'ema_model\.{re.escape(name)}' is \(5,\) of float32, it must be \(64,\)"
    ):
        DiffusionAutoencoder.from_official(write(path, {**tensors, name: torch.zeros(5)}))
    del tensors[name]
    with pytest.raises(CheckpointError, match=rf"lacks tensor 'ema_model\.{re.escape(name)}'"):
        DiffusionAutoencoder.from_official(write(path, tensors))


@pytest.mark.parametrize("kind", ["sparse", "meta", "float8"])
def test_tensors_of_other_kinds_are_refused(tmp_path: Path, kind: str) -> None:
    tensors = published_tensors(model_of())
    name = "out.2.weight"
    tensor = tensors[name]
    tensors[name] = {
        "sparse": tensor.to_sparse,
        "meta": lambda: tensor.to("meta"),
        "float8": lambda: tensor.to(torch.float8_e4m3fn),
    }[kind]()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"ema_model.{key}": value for key, value in tensors.items()}}, path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt") as caught:
        DiffusionAutoencoder.from_official(path, image_size=16)
    assert "\n" not in str(caught.value)
