"""A run folder on disk: its files, and how they are read and written.

config.json         model and training settings, and the version that wrote them; unknown keys are an error
model.safetensors   EMA weights: all that inference needs
training/           the full state for resuming (`diffae.training.trainer`)
metrics.jsonl  samples/
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffae import remote
from diffae.config import ModelConfig, from_dict, to_dict
from diffae.deprecation import NetworkConfig, __version__
from diffae.errors import SHORT_OF_SPACE, CheckpointError, ConfigError, TrainingError, reading

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""What networks compute with."""
_NAMES_0_1 = ("unet.", "decoder.")
"""What version 0.1 called the decoder in files of weights, and its present name."""


# ---------------------------------------------------------------------- files


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new hidden folder beside `path`, for what is renamed to it; removed at the end.

    What killed processes of this machine left behind is removed, the first time that this process writes there.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written; also where that happens inside the block.
    """
    folder = path.with_name(f".{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent.absolute(), os.getpid())
        folder.mkdir(0o700)
        yield folder
    except OSError as error:
        raise TrainingError(cannot_write(path, error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Write a file atomically: a temporary path, renamed to `path` on success and removed on failure.

    The temporary file has the name of `path`, in a folder of its own: libraries leave temporary files beside it.

    Args:
        path: the file, or an address (see `diffae.remote`), to which it is sent once it is whole.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written.
        DataError: the address cannot be written.
    """
    if remote.is_remote(path):
        with remote.uploaded(path) as temporary:
            yield temporary
        return
    with folder_beside(path) as folder:
        temporary = folder / path.name
        temporary.touch()
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # else a power failure could leave the name without the content
        os.replace(temporary, path)


@functools.lru_cache
def _remove_leftovers(folder: Path, process: int) -> None:
    """Remove what processes that have ended left; once for each folder and process, as folders may be large."""
    pattern = re.compile(rf"\.{_host()}-(\d+)-[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):  # a folder may be one to write only
        for left in folder.iterdir():
            found = pattern.fullmatch(left.name)
            if found and int(found[1]) != process and not psutil.pid_exists(int(found[1])):
                shutil.rmtree(left, ignore_errors=True)


def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def cannot_write(path: Path, error: OSError) -> str:
    """The message for a file that cannot be written; asks for space only where space is short."""
    remedy = "choose another folder"
    if error.errno in SHORT_OF_SPACE:
        remedy = f"free some space, or {remedy}"
    elif error.errno is None:
        remedy = "choose another suffix"  # not the system's error, but an encoder's
    return f"cannot write {path}: {error.strerror or error}; {remedy}"


def copy_file(source: Path, path: Path) -> None:
    """Copy a file atomically; see `written_beside`."""
    with written_beside(path) as temporary:
        shutil.copyfile(source, temporary)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_beside(path) as temporary:
        try:
            mode = temporary.stat().st_mode
            save_file(plain, temporary, dict(metadata))
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
        except SafetensorError as error:
            if found := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
            raise TrainingError(f"cannot write {path}: {error}; this is a bug, please report it") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata.

    Raises:
        CheckpointError: the file is missing, truncated, or not safetensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: name a run folder made by `diffae train`")
    with reading_weights(path):
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata


def reading_weights(path: Path) -> AbstractContextManager[None]:
    """Turn whatever reading a safetensors file raises into a `CheckpointError`."""
    return reading(path, "copy it again, or restore it from a backup", CheckpointError)


# ---------------------------------------------------------------------- settings


def write_config(folder: Path, model: ModelConfig, **more: Any) -> None:
    """Write config.json: the model's settings, whatever else is named, and the version."""
    settings = {"diffae": __version__, "model": to_dict(model), **more}
    with written_beside(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as plain values.

    Raises:
        CheckpointError: it is missing, not a JSON object, or written by a newer version.
    """
    path = folder / CONFIG
    if remote.is_remote(folder):
        raise CheckpointError(f"{remote.shown(folder)}: a run must be on a disk: copy it to one")
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a run folder: it has no {CONFIG}; {_runs_beside(folder)}")
    with reading(path, "restore it from a backup", CheckpointError, "is not valid JSON"):
        settings = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} is not a JSON object: it was not written by diffae")
    version = str(settings.get("diffae", __version__))
    if _minor(version) > _minor(__version__):
        raise CheckpointError(f"{path} was written by diffae {version}, newer than this {__version__}: upgrade diffae")
    return settings


def _runs_beside(folder: Path) -> str:
    """The advice for a folder that is no run: the runs beside it, those of a similar name first."""
    try:
        runs = sorted(path.parent.name for path in folder.parent.glob(f"*/{CONFIG}"))
    except OSError:
        runs = []
    if not runs:
        return "make one with `diffae train`"
    if near := difflib.get_close_matches(folder.name, runs, 1):
        return f"did you mean {folder.with_name(near[0])}?"
    return f"the runs in {folder.parent} are {', '.join(runs[:9])}{', ...' if len(runs) > 9 else ''}"


def _minor(version: str) -> tuple[int, ...]:
    """The major and the minor number; (0, 0) of what is no version."""
    numbers = version.split(".")[:2]
    return tuple(map(int, numbers)) if all(number.isascii() and number.isdigit() for number in numbers) else (0, 0)


def read_model_config(folder: Path, *, trust_code: bool = False) -> ModelConfig:
    """The model's settings from config.json.

    Args:
        folder: the run folder.
        trust_code: whether parts from outside this package may be imported.

    Raises:
        CheckpointError: a key is missing or unknown, or a value is not allowed.
    """
    try:
        return from_dict(ModelConfig, read_config(folder)["model"], trust_code=trust_code)
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG} has no {error}: it was not written by diffae") from error
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error


# ---------------------------------------------------------------------- weights


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without its frozen parts: submodules with a true attribute `frozen`.

    Frozen parts, for instance pretrained encoders, are built from their settings; they are neither saved nor averaged.
    """
    frozen = tuple(f"{name}." for name, part in module.named_modules() if name and getattr(part, "frozen", False))
    state = module.state_dict()
    return {name: tensor for name, tensor in state.items() if not (frozen and name.startswith(frozen))}


def present_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any version under the names of this one."""
    old, new = _NAMES_0_1
    return {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in weights.items()}


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights with exactly the names and shapes of a module's own state.

    Raises:
        CheckpointError: names or shapes differ; says which.
    """
    weights = present_names(weights)
    refuse_differences(module, weights, source)
    with reading(source, "copy it again, or restore it from a backup", CheckpointError, "cannot be loaded"):
        module.load_state_dict(weights, strict=False)  # the frozen parts are not in the file


def refuse_differences(module: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Raise `CheckpointError` unless weights have exactly the names, shapes and kinds of a module's own state.

    The module may be on the device "meta": then nothing of the size that settings declare is allocated.
    """
    expected = own_state(module)
    for name in sorted(expected.keys() ^ weights.keys()):
        which = "lacks" if name in expected else "has an unknown"
        raise CheckpointError(f"{source} {which} tensor {name!r}: it belongs to a model of another configuration")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            raise CheckpointError(f"{source}: {name!r} is {shapes}: it belongs to a model of another configuration")
        if (tensor.dtype in FLOATS) != (expected[name].dtype in FLOATS):
            types = f"{tensor.dtype}, not {expected[name].dtype}".replace("torch.", "")
            raise CheckpointError(f"{source}: {name!r} is of {types}: no network computes with it; get another file")


def refuse_misfit(build: Callable[[], nn.Module], weights: Mapping[str, Tensor], source: Path) -> None:
    """Raise `CheckpointError` unless weights belong to the module that `build` makes, which takes no memory here.

    Settings may declare networks larger than any memory; the file that they come with shows that they lie.
    """
    with reading(source, "get it again", CheckpointError, "belongs to a model of another configuration"):
        with torch.device("meta"):
            module = build()
        refuse_differences(module, present_names(weights), source)


class Fingerprint(str):
    """A short hash of a model's settings and weights; also matches the hash that version 0.1 made of the same model."""

    def __new__(cls, config: ModelConfig, weights: Mapping[str, Tensor]) -> Fingerprint:
        return super().__new__(cls, _digest(_changed(config), weights))

    def __init__(self, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
        self._of = config, weights

    def matches(self, stored: str | None) -> bool:
        """Whether a file that carries the fingerprint `stored` belongs to this model."""
        return stored == self or stored == _fingerprint_0_1(*self._of)


def _digest(settings: Any, weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _fingerprint_0_1(config: ModelConfig, weights: Mapping[str, Tensor]) -> str | None:
    """What version 0.1 made of settings and weights; None for parts that it did not have."""
    try:
        network = NetworkConfig.of(config)
    except AttributeError:
        return None
    parts = {"network": network, "diffusion": config.diffusion, "input": config.input}
    changed = {name: values for name, part in parts.items() if (values := _changed(part))}
    new, old = _NAMES_0_1[::-1]
    renamed = {old + name.removeprefix(new) if name.startswith(new) else name: t for name, t in weights.items()}
    return _digest(changed, renamed)


def _changed(settings: Any) -> dict[str, Any]:
    """Settings that differ from their defaults, and a part's kind: a setting that a later version adds is not among
    them, and changes no fingerprint."""
    kind = to_dict(settings).get("kind")
    changed = {"kind": kind} if kind else {}
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if value != default:
            changed[f.name] = _changed(value) if dataclasses.is_dataclass(value) else value
    return changed
