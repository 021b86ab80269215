"""Readers of everything else: archives of images, tables of labels, run folders, codes, published checkpoints."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import published
import torch
from image_targets import read_source
from onnx_files import OPERATORS, onnx
from PIL import Image
from targets import Target
from tiny import tiny_config, tiny_model

from diffae import checkpoint
from diffae.cli.codes import Decode
from diffae.cli.info import Info
from diffae.compat.original.reading import read_classifier
from diffae.config import PriorConfig, from_dict, to_dict
from diffae.data.labels import LabelTable
from diffae.data.sources import open_source
from diffae.evaluation import runner
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.results import Claim, Outcome, Picture, Result, Table
from diffae.evaluation.statistics import Estimate
from diffae.latent.attribute_labels import split_columns
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import StoredCodes, load_codes, save_codes
from diffae.latent.prior import LatentPrior
from diffae.model import DiffusionAutoencoder
from diffae.networks.mlp import SkipMLP
from diffae.training.settings import TrainingConfig

_NAMES = [f"{i:02d}.png" for i in range(12)]


def read_labels(path: Path) -> None:
    """A table, its columns as targets, and the table matched to images."""
    table = LabelTable.read(path)
    for target in split_columns(table):
        target.problem()
    table.for_images(_NAMES).cells(table.values[0].tolist())


def read_samples(path: Path) -> None:
    """Shards: fingerprint, images and labels."""
    source = open_source(path)
    list(islice(source.fingerprint(), 100))
    read_source(path)


def read_config(path: Path) -> None:
    """Settings of a model and of its training."""
    checkpoint.read_model_config(path)
    from_dict(TrainingConfig, checkpoint.read_config(path).get("training", {}))


def read_run(path: Path) -> None:
    """`diffae info`, the model, its prior and its attributes."""
    with redirect_stdout(io.StringIO()):
        Info(path).run()
    model = DiffusionAutoencoder.from_pretrained(path, "cpu")
    model.encode_semantic(torch.zeros(1, 3, 16, 16))
    prior = LatentPrior.load(path, model.fingerprint())
    prior.sample(2, steps=2)
    attributes = AttributeDirections.load(path, model.fingerprint())
    for name in attributes.names_:
        attributes.goal(name, 0.5)
        attributes.direction(name)
        str(attributes.attributes_[name].score)


def read_codes(path: Path) -> None:
    """Codes, and the images that are decoded from them."""
    stored = load_codes(path / "codes.safetensors")
    with redirect_stdout(io.StringIO()):
        Decode(str(path / "run"), path / "codes.safetensors", path / "out").run()
    str(stored.sampling)


def read_checkpoint(path: Path) -> None:
    """A published autoencoder with its latent net."""
    DiffusionAutoencoder.from_official(path, 1, 16, "cpu")


def read_network(path: Path) -> None:
    """A feature network, and its features of two images."""
    network = FeatureNetwork.open(path)
    kinds = network.gives(8)
    if "vectors" in kinds:
        network.vectors(torch.zeros(2, 3, 8, 8))


def read_results(path: Path) -> None:
    """Outcomes of an evaluation."""
    runner._read(path)


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"faces/{i}.png", layouts.encoded(i))
            archive.writestr(f"faces/{i}é.jpg", layouts.encoded(i, "JPEG"), zipfile.ZIP_STORED)
    return folder / "a.zip"


def shards(name: str, mode: str = "w", **options: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with tarfile.open(folder / name, mode, **options) as archive:  # type: ignore[call-overload]
            for i in range(4):
                facts = json.dumps({"age": i / 2, "seen": True, "text": "x", "é": None}).encode()
                for suffix, data in {"png": layouts.encoded(i), "json": facts, "cls": b"cat"}.items():
                    info = tarfile.TarInfo(f"{'long' * 30}/{i:06d}é.{suffix}")
                    info.size, info.pax_headers = len(data), {"comment": "ä"}
                    archive.addfile(info, io.BytesIO(data))
        return folder / name

    return write


def table(name: str, separator: str = ",") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        rows = [("file", "smiling", "age", "kind", "odd")]
        rows += [(file, str(i % 2), str(i * 1.5), "cat" if i % 3 else "dog", "?") for i, file in enumerate(_NAMES)]
        (folder / name).write_text("".join(separator.join(row) + "\n" for row in rows))
        return folder / name

    return write


def celeba_table(folder: Path) -> Path:
    (folder / "list_attr_celeba.txt").write_bytes(layouts.attributes(_NAMES))
    return folder / "list_attr_celeba.txt"


def config(folder: Path) -> Path:
    """Some of the settings: those that are absent have defaults."""
    tiny = to_dict(tiny_config())
    tiny["input"] |= {"crop": [0, 0, 8, 8], "window": [[0, 1]] * 3}
    checkpoint.write_config(folder, tiny_config())
    whole = json.loads((folder / "config.json").read_text())
    training = {"batch_size": 4, "images": 100, "auxiliary_losses": [{"kind": "hog", "weight": 0.5}]}
    (folder / "config.json").write_text(json.dumps({**whole, "model": tiny, "training": training}))
    return folder


def run(folder: Path) -> Path:
    model = tiny_model()
    model.save_pretrained(folder)
    fingerprint = model.fingerprint()
    settings = PriorConfig(3, 16)
    LatentPrior(settings, SkipMLP(6, 16, 3), torch.zeros(6), torch.ones(6)).save(folder, fingerprint)
    labels = {"smiling": np.arange(60) % 2, "age": np.arange(60.0)}
    AttributeDirections().fit(np.random.default_rng(0).normal(size=(60, 6)), labels).save(folder, fingerprint)
    whole = json.loads((folder / "config.json").read_text())
    more = {"training": {"images": 100, "batch_size": 4}, "data": {"source": "photos", "count": 9, "key": "x"}}
    (folder / "config.json").write_text(json.dumps({**whole, **more, "official": {"checkpoint": "last.ckpt"}}))
    lines = [
        {"step": 1, "images": 4, "loss": 0.5},
        {"step": 2, "images": 8, "val_loss": 0.5, "val_loss_shuffled": 0.7, "val_mse_semantic": 0.1},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    checkpoint.write_tensors(folder / "training" / "state.safetensors", {"model.x": torch.zeros(2)}, {"step": "2"})
    return folder


def codes(folder: Path) -> Path:
    from diffae.config import Sampling
    from diffae.data.formats.metadata import ImageMetadata

    model = tiny_model()
    model.save_pretrained(folder / "run")
    origins = (
        None,
        ImageMetadata("png", "uint8", (16, 16)),
        ImageMetadata("tiff", "uint16", (16, 16), resolution=(1.0, 2.0), texts=((305, "x"),), notes=(("Info", "a"),)),
        ImageMetadata("nifti", "uint16", (16, 16), affine=((1.0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))),
    )
    names, x_T = ["a.png", "b/c.png", "d.tif", "e.nii"], torch.zeros(4, 3, 16, 16)
    stored = StoredCodes(names, model.fingerprint(), Sampling(2), torch.zeros(4, 6), x_T, origins=origins)
    save_codes(folder / "codes.safetensors", stored)
    return folder


def official(folder: Path) -> Path:
    tensors = published.published_tensors(published.model_of()) | published.latent_tensors(published.latent_net())
    settings: dict[str, Any] = {"hyper_parameters": {"net_num_head": 1, "beta_scheduler": "linear", "T": 1000}}
    return published.write(folder / "last.ckpt", tensors, **published.STATS, **settings)


def classifier(folder: Path) -> Path:
    return published.write_classifier(folder / "cls.ckpt")


def network(folder: Path) -> Path:
    return onnx(folder / "means.onnx", ("n", 3, "h", "w"), OPERATORS)


def scripted(folder: Path) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but people hold such files
        module = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
        torch.jit.save(torch.jit.trace(module, torch.zeros(1, 3, 8, 8)), folder / "means.pt")
    return folder / "means.pt"


def results(folder: Path) -> Path:
    tables = (Table("scores", "Scores", ("name", "value"), (("a", 1.5), ("b", Estimate(1.0, 0.5, 1.5, 9)))),)
    claims = (Claim(1, "shown", "It holds."),)
    pictures = (Picture("strip", "A strip.", Image.new("RGB", (1, 1))),)
    outcomes = {
        "capacity": Outcome("capacity", {"model": "x"}, 1.0, 2.0, Result(tables, pictures, claims, ("A note.",))),
        "nearest": Outcome("nearest", {}, skipped="no images"),
    }
    runner._write(folder, outcomes, {"quick": True})
    return folder


TARGETS: dict[str, Target] = {
    "zip": Target(zipped, read_source),
    "tar": Target(shards("a.tar"), read_samples),
    "tar-gnu": Target(shards("a.tar", format=tarfile.GNU_FORMAT), read_samples),
    "tar-gz": Target(shards("a.tar.gz", "w:gz"), read_samples),
    "csv": Target(table("a.csv"), read_labels),
    "tsv": Target(table("a.tsv", "\t"), read_labels),
    "celeba-labels": Target(celeba_table, read_labels),
    "config": Target(config, read_config),
    "run": Target(run, read_run),
    "codes": Target(codes, read_codes),
    "ckpt": Target(official, read_checkpoint),
    "ckpt-classifier": Target(classifier, lambda path: read_classifier(path, published.D)),
    "onnx": Target(network, read_network),
    "torchscript": Target(scripted, read_network),
    "results": Target(results, read_results),
}
