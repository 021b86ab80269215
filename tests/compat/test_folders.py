"""Published checkpoints imported as run folders, and exported again; failures leave nothing behind."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
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
from safetensors.torch import load_file, save_file
from tiny import images, normal, tiny_config, tiny_model
from torch.nn.functional import normalize

from diffae.compat.original.architecture import Facts
from diffae.compat.original.folders import directions_of, export_official, import_official
from diffae.compat.original.reading import Classifier, Statistics
from diffae.config import DiffusionConfig, UNetConfig
from diffae.errors import CheckpointError, ConfigError
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind of published file; they belong together."""
    folder = tmp_path_factory.mktemp("published")
    tensors = published_tensors(model_of(config_of(heads=2)))
    write(folder / "last.ckpt", tensors)
    write(folder / "latent.ckpt", {**tensors, **latent_tensors(latent_net())}, **STATS)
    write_classifier(folder / "cls.ckpt")
    write_stats(folder / "latent.pkl")
    return folder


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder imported from all of them."""
    out = tmp_path_factory.mktemp("runs") / "faces"
    import_official(
        files / "last.ckpt", out, latent=files / "latent.ckpt", classifier=files / "cls.ckpt",
        stats=files / "latent.pkl", facts=Facts(heads=2),
    )  # fmt: skip
    return out


def test_all_published_files_become_one_run(run: Path) -> None:
    found = sorted(path.name for path in run.iterdir())
    assert found == ["attributes.safetensors", "config.json", "model.safetensors", "prior.safetensors"]
    model = DiffusionAutoencoder.from_pretrained(run, "cpu")
    original = model_of(config_of(heads=2))
    assert model.config == original.config
    assert torch.equal(model.encode_semantic(images(2)), original.encode_semantic(images(2)))
    assert torch.equal(model.require_prior().std, STATS["conds_std"][0])
    assert model.sample(2, prior_steps=2).shape == (2, 3, 16, 16)
    official = json.loads((run / "config.json").read_text())["official"]
    assert official == {"checkpoint": "last.ckpt", "latent": "latent.ckpt", "classifier": "cls.ckpt"}


def test_edits_are_the_published_ones(run: Path) -> None:
    """As in manipulate.ipynb: 0.3 sqrt(d) along the unit weight, in codes normalised by the classifier's buffers."""
    model = DiffusionAutoencoder.from_pretrained(run, "cpu")
    directions = AttributeDirections.load(run, model.fingerprint())
    assert len(directions.names_) == 40
    z_sem = model.encode_semantic(images(2))
    weight = normal(40, D, seed=7)[[31]]  # Smiling
    z_norm = (z_sem - STATS["conds_mean"]) / STATS["conds_std"]
    expected = (z_norm + 0.3 * math.sqrt(D) * normalize(weight, dim=1)) * STATS["conds_std"] + STATS["conds_mean"]
    edited = directions.edit(Code(z_sem), "Smiling", 0.3).z_sem
    assert edited is not None
    torch.testing.assert_close(edited, expected)
    logits = z_norm @ weight.T + normal(40, seed=8)[31]
    np.testing.assert_allclose(directions.read(z_sem)[:, 31], logits[:, 0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="'median': unknown for imported attributes"):
        directions.edit(Code(z_sem), "Smiling", "median")


def test_exported_and_imported_again(run: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    written, notes = export_official(run, out)
    assert written == ["cls.ckpt", "last.ckpt", "latent.ckpt", "latent.pkl", "template.py"]
    assert not notes
    for name in ("last.ckpt", "latent.ckpt", "cls.ckpt"):
        there = torch.load(files / name, weights_only=True)["state_dict"]
        back = torch.load(out / name, weights_only=True)["state_dict"]
        assert back.keys() == there.keys()
        kept = [key for key in there if not key.startswith(("model.", "ema_classifier.")) and key != "x_T"]
        assert all(torch.equal(back[key], there[key]) for key in kept)
    stats = torch.load(out / "latent.pkl", weights_only=True)
    assert {name: tuple(value.shape) for name, value in stats.items()} == {
        "conds": (0, D), "conds_mean": (D,), "conds_std": (D,)
    }  # fmt: skip
    import_official(out / "latent.ckpt", tmp_path / "again", classifier=out / "cls.ckpt")  # the file states the heads
    first, again = DiffusionAutoencoder.from_pretrained(run), DiffusionAutoencoder.from_pretrained(tmp_path / "again")
    assert again.fingerprint() == first.fingerprint()
    weights = first.require_prior().network.state_dict()
    for name, tensor in again.require_prior().network.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_the_template_holds_the_settings(run: Path, tmp_path: Path) -> None:
    """Its functions, run with stand-ins for the published code's, set the settings of the networks."""
    export_official(run, tmp_path / "exported")
    path = tmp_path / "exported" / "template.py"
    text = path.read_text()

    class Conf:
        def __init__(self, **settings: Any) -> None:
            vars(self).update(settings)

        def make_model_conf(self) -> None:
            self.made = dict(vars(self))

    expected = {
        "img_size": 16, "net_ch": 32, "net_ch_mult": (1, 2), "net_enc_channel_mult": (1, 2, 2), "net_num_res_blocks": 1,
        "net_enc_num_res_blocks": 1, "net_attn": (8,), "net_beatgans_attn_head": 2, "net_beatgans_embed_channels": 12,
        "net_beatgans_resnet_cond_channels": D, "style_ch": D, "dropout": 0.1, "beta_scheduler": "linear", "T": 1000,
        "sample_size": 32,
    }  # fmt: skip
    latent = {
        "net_latent_layers": 4, "net_latent_skip_layers": (1, 2, 3), "net_latent_num_hid_channels": 16,
        "net_latent_condition_bias": 1, "latent_znormalize": True, "latent_beta_scheduler": "const0.008",
    }  # fmt: skip
    published = {
        "autoenc_base": lambda: Conf(**dict.fromkeys([*expected, *latent])),
        "latent_mlp_2048_norm_10layers": lambda conf: conf,
        "latent_diffusion_config": lambda conf: conf,
        "__file__": str(path),
    }
    exec(text.replace("from templates import *", "").replace("from templates_latent import *", ""), published)
    made = published["autoencoder"]().made
    assert {name: made[name] for name in expected} == expected
    assert made["name"] == "exported"
    conf = published["latent"]()
    assert {name: conf.made[name] for name in latent} == latent
    assert Path(conf.latent_infer_path) == path.with_name("latent.pkl")


def test_a_ddim_there_and_back(tmp_path: Path) -> None:
    original = model_of(config_of(z_sem_channels=0, encoder_channel_mult=(1, 2)))
    import_official(write(tmp_path / "last.ckpt", published_tensors(original)), tmp_path / "run")
    written, _ = export_official(tmp_path / "run", tmp_path / "exported")
    assert written == ["last.ckpt", "template.py"]
    text = (tmp_path / "exported" / "template.py").read_text()
    assert "ddpm()" in text
    assert "latent()" not in text
    back = DiffusionAutoencoder.from_official(tmp_path / "exported" / "last.ckpt")
    assert back.fingerprint() == DiffusionAutoencoder.from_pretrained(tmp_path / "run").fingerprint()


def test_notes_on_changes_to_the_published_code(tmp_path: Path) -> None:
    model = model_of(config_of(image_channels=1))
    model.save_pretrained(tmp_path / "run")
    classifier = Classifier(("round",), normal(1, D), normal(1), Statistics(normal(D), torch.ones(D)))
    directions_of(classifier).save(tmp_path / "run", model.fingerprint())
    written, notes = export_official(tmp_path / "run", tmp_path / "exported")
    assert written == ["cls.ckpt", "last.ckpt", "latent.pkl", "template.py"]
    assert "change in_channels and model_out_channels to 1" in notes[0]
    assert "change id_to_cls" in notes[1]
    import_official(tmp_path / "exported" / "last.ckpt", tmp_path / "again", classifier=tmp_path / "exported/cls.ckpt")
    assert AttributeDirections.load(tmp_path / "again").names_ == ("round",)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_model(config_of(), "v"), "the network predicts v: the published code supports only eps"),
        (tiny_model(tiny_config(), "eps"), "24 channels are normalised in 8 groups here"),
        (
            DiffusionAutoencoder(config_of(encoder_pooling="flatten")),
            "pooling is flatten: the published code can",
        ),
        (DiffusionAutoencoder(config_of(z_map_channels=2)), "z_map_channels is 2"),
        (DiffusionAutoencoder(config_of(upsampling="last")), "upsampling is last"),
    ],
    ids=["v", "width", "pooling", "map", "upsampling"],
)
def test_networks_that_the_published_code_cannot_run(tmp_path: Path, model: DiffusionAutoencoder, message: str) -> None:
    model.save_pretrained(tmp_path / "run")
    with pytest.raises(CheckpointError, match=message):
        export_official(tmp_path / "run", tmp_path / "exported")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_networks_of_patches_cannot_be_exported(tmp_path: Path) -> None:
    config = config_of()
    assert isinstance(config.decoder, UNetConfig)
    model = DiffusionAutoencoder(dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, patch_size=2)))
    model.save_pretrained(tmp_path / "run")
    with pytest.raises(CheckpointError, match="patch_size is 2: the published networks see pixels"):
        export_official(tmp_path / "run", tmp_path / "exported")


def test_weights_that_do_not_fit_the_settings(run: Path, tmp_path: Path) -> None:
    weights = load_file(run / "model.safetensors")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text((run / "config.json").read_text())
    for changed, message in (
        ({"decoder.out.bias": None}, r"lacks tensor 'decoder\.out\.bias'"),
        ({"decoder.out.bias": torch.zeros(4)}, r"'decoder\.out\.bias' is \(4,\), not \(3,\)"),
    ):
        tensors = {name: tensor for name, tensor in {**weights, **changed}.items() if tensor is not None}
        save_file(tensors, tmp_path / "run" / "model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            export_official(tmp_path / "run", tmp_path / "exported")
        assert not (tmp_path / "exported").exists()


def test_a_prior_of_another_kind_is_left_out(files: Path, tmp_path: Path) -> None:
    model = DiffusionAutoencoder.from_official(files / "latent.ckpt", device="cpu")
    prior = model.require_prior()
    prior.config = type(prior.config)(4, 16, "l1", DiffusionConfig("constant", prediction="v"))
    model.save_pretrained(tmp_path / "run")
    written, notes = export_official(tmp_path / "run", tmp_path / "exported")
    assert written == ["last.ckpt", "template.py"]
    assert notes == ["the prior is left out: it predicts v, the published code supports only eps"]


def test_failures_leave_nothing_behind(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    without: dict[str, Any] = {"classifier.weight": None}
    write_classifier(tmp_path / "cls.ckpt", **without)
    with pytest.raises(CheckpointError, match=r"lacks tensor 'classifier\.weight'"):
        import_official(files / "last.ckpt", out, classifier=tmp_path / "cls.ckpt")
    with pytest.raises(ConfigError, match=r"latent\.pkl': there is no latent net and no classifier"):
        import_official(files / "last.ckpt", out, stats=files / "latent.pkl")
    ddim = write(tmp_path / "ddim.ckpt", published_tensors(model_of(config_of(z_sem_channels=0))))
    with pytest.raises(ConfigError, match=r"cls\.ckpt': .* has no encoder"):
        import_official(ddim, out, classifier=files / "cls.ckpt")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    for make in (import_official, export_official):
        with pytest.raises(CheckpointError, match="there exists already: choose another --out"):
            make(files / "last.ckpt", tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cls.ckpt", "ddim.ckpt", "there"]
