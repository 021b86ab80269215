"""A run folder on disk: what is in it, how it is read, and how it is written so that a crash never spoils it.

config.json         model and training settings, and the version that wrote them; unknown keys are an error
model.safetensors   EMA weights: all that inference needs
training/           the full state for resuming (`diffae.training.state`)
metrics.jsonl  samples/
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffae import __version__
from diffae.config import ModelConfig, from_dict
from diffae.errors import CheckpointError, ConfigError, TrainingError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well, removed when it does not.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")  # one name, so that what a killed process left is written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure could leave the name without the content
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise TrainingError(f"cannot write {path}: {reason}; free some space, or choose another folder") from error
    finally:
        with contextlib.suppress(OSError):  # where there is no such folder
            temporary.unlink()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_beside(path) as temporary:
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(plain, temporary, dict(metadata))
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
        except SafetensorError as error:
            raise TrainingError(f"cannot write {path}: {error}; free some space and try again") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata.

    Raises:
        CheckpointError: the file is missing, truncated, or not safetensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: name a run folder made by `diffae train`")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy it again, or restore it from a backup") from error


def write_config(folder: Path, model: ModelConfig, **more: Any) -> None:
    """Write config.json: the model's settings, whatever else is named, and the version."""
    settings = {"diffae": __version__, "model": dataclasses.asdict(model), **more}
    with written_beside(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as plain values.

    Raises:
        CheckpointError: it is missing or not JSON.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a run folder: it has no {CONFIG}; make one with `diffae train`")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): restore it from a backup") from error


def read_model_config(folder: Path) -> ModelConfig:
    """The model's settings from config.json.

    Raises:
        CheckpointError: a key is missing or unknown, or a value is not allowed.
    """
    try:
        return from_dict(ModelConfig, read_config(folder)["model"])
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG} has no {error}: it was not written by diffae") from error
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Put weights into a module of exactly the same names and shapes.

    Raises:
        CheckpointError: names or shapes differ; says which.
    """
    expected = module.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        which = "lacks" if name in expected else "has an unknown"
        raise CheckpointError(f"{source} {which} tensor {name!r}: it belongs to a model of another configuration")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            raise CheckpointError(f"{source}: {name!r} is {shapes}: it belongs to a model of another configuration")
    module.load_state_dict(dict(weights))


def fingerprint(config: ModelConfig, weights: Mapping[str, Tensor]) -> str:
    """A short hash of settings and weights."""
    digest = hashlib.sha256(repr(_changed(config, ModelConfig())).encode())
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _changed(settings: Any, default: Any) -> dict[str, Any]:
    """The settings that differ from their defaults: so one that a later version adds changes no fingerprint."""
    pairs = {f.name: (getattr(settings, f.name), getattr(default, f.name)) for f in dataclasses.fields(settings)}
    return {
        name: _changed(value, usual) if dataclasses.is_dataclass(value) else value
        for name, (value, usual) in pairs.items()
        if value != usual
    }


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None) -> str:
    """Put a folder on the Hugging Face Hub; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def locate(source: str | Path) -> Path:
    """The run folder of that path, or else, if it can be one's name, the copy of a repository of the Hub.

    Raises:
        CheckpointError: there is no such repository, or it cannot be reached.
    """
    folder, name = Path(source), str(source)
    is_name = name.count("/") == 1 and not name.startswith((".", "~"))
    return download(name) if is_name and not folder.exists() else folder


def download(repo_id: str) -> Path:
    """The local copy of a repository of the Hugging Face Hub.

    Raises:
        CheckpointError: there is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{repo_id!r} is neither a folder nor to be had from the Hub ({reason})") from error
