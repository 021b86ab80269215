"""The `diffae` command. A command's module is imported only when it is run, so that `diffae --help` is fast."""

from __future__ import annotations

import difflib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from diffae.cli import common
from diffae.cli.renamed import COMMANDS as OLD_COMMANDS
from diffae.cli.renamed import current
from diffae.cli.terminal import note, say, warn
from diffae.deprecation import __version__
from diffae.devices import use_device
from diffae.distributed import LOST, is_main, lost_another, rank, require_one_process, world_size
from diffae.errors import ConfigError, DiffaeError, refused
from diffae.interrupts import exit_code, raised
from diffae.remote import is_remote, shown

UNEXPECTED = 1
FAILED = 2

GLOBAL = ("--trust-code", "--debug")
"""Options before the command: import a run's parts from outside diffae; show tracebacks."""
DEVICE = "--device"
"""Option of every command, anywhere among its words: cpu, cuda, cuda:1 or mps; by default a GPU where there is one."""

DESCRIPTION = """Diffusion autoencoders: a representation of your images that is meaningful and decodable.

Start with `diffae train PHOTOS --out runs/photos`, or see it work with `diffae demo --out demo`.
`diffae COMMAND --help` explains a command."""

COMMANDS: dict[str, tuple[str, str, str]] = {
    "train": ("train", "Train", "Train a diffusion autoencoder on your images."),
    "reconstruct": ("reconstruct", "Reconstruct", "Encode and decode images, with pictures, PSNR, SSIM and MSE."),
    "encode": ("codes", "Encode", "Encode images to a file or a folder of codes, or to a table."),
    "decode": ("codes", "Decode", "Decode a file or a folder of codes to images."),
    "interpolate": ("explore", "Interpolate", "Morph one image into another."),
    "vary": ("explore", "Vary", "Decode the z_sem of an image with different x_T."),
    "denoise-path": ("explore", "DenoisePath", "Show the predicted image at each noise level."),
    "train-prior": ("prior", "TrainPrior", "Train the latent prior of a run, which `diffae sample` needs."),
    "train-first-stage": (
        "first_stage",
        "TrainFirstStage",
        "Train an image autoencoder for `diffae train --first-stage`, an AutoencoderKL of diffusers.",
    ),
    "distill": (
        "distill",
        "Distill",
        "Distil the decoder of a run into a student, which decodes in 1, 2 or 4 network calls.",
    ),
    "sample": ("sample", "Sample", "Generate new images, and check them for copies of training images."),
    "attributes fit": ("attributes", "FitAttributes", "Learn directions of z_sem from labels."),
    "attributes show": ("attributes", "ShowAttributes", "List the attributes of a run, with held-out scores."),
    "attributes predict": ("attributes", "PredictAttributes", "Write the read-outs of images as a table."),
    "edit": ("edit", "Edit", "Edit an image by attributes."),
    "directions": ("directions", "ShowDirections", "Show unsupervised directions of z_sem."),
    "evaluate": ("evaluate", "Evaluate", "Evaluate a model as in the paper, and write a report."),
    "reproduce": (
        "reproduce",
        "Reproduce",
        "Train everything the paper compares, and write its tables and figures for your images.",
    ),
    "import": ("convert", "Import", "Make a run folder from checkpoints of the original implementation."),
    "export": (
        "convert",
        "Export",
        "Write a run for other programs: as checkpoints of the original implementation, or as ONNX files.",
    ),
    "data prepare": ("data", "Prepare", "Decode a data set once into a pack."),
    "data info": ("data", "PackInfo", "Describe a pack: images, source, labels."),
    "data browse": ("data", "Browse", "Draw images of a pack on one sheet."),
    "config": ("config", "Config", "Print settings in YAML, for `diffae train --config`."),
    "push": ("push", "Push", "Upload a run to the Hugging Face Hub."),
    "info": ("info", "Info", "Describe a run folder."),
    "studio": ("studio", "OpenStudio", "Open a model in the browser: edit pictures, blend, sample, see the map."),
    "demo": ("demo", "Demo", "Show what a trained model does, and train a small one, as one HTML page."),
}
"""Module, class and summary of each command; the summary is the first line of the class's docstring."""

_SHARED = ("train", "train-prior", "encode", "decode", "attributes fit", "sample", "evaluate")
"""Commands whose work several processes share."""

_TO_ADDRESSES = ("encode", "decode")
"""Commands whose --out may be an address; see `diffae.remote`."""

_LOGGED = ("diffae.data.images", "diffae.data.labels", "diffae.data.locks", "diffae.data.sources", "diffae.model")
"""Loggers whose warnings are for the user."""


class _Warnings(logging.Handler):
    """Prints logged warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        warn(record.getMessage())


class Command(Protocol):
    """A parsed command line."""

    def run(self) -> int:
        """Run the command; returns the exit code."""
        ...


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: the words after `diffae`; by default those of the process.

    Returns:
        0 on success; 2 on bad input and 1 on an unexpected error, after one line on standard error; 130 after
        Ctrl-C, and 143 after SIGTERM.

    Raises:
        SystemExit: after the `--help` of a command, or with code 2 after wrong usage of one.
    """
    logging.getLogger("diffae").addHandler(logging.NullHandler())  # commands print what users should see
    for name in _LOGGED:
        if not logging.getLogger(name).handlers:
            logging.getLogger(name).addHandler(_Warnings())
    words = list(sys.argv[1:] if args is None else args)
    flags = {words.pop(0) for _ in GLOBAL if words and words[0] in GLOBAL}
    common.trust_code = "--trust-code" in flags
    try:
        with raised():
            _take_device(words)
            code = _run(words)
        sys.stdout.flush()
        return code
    except DiffaeError as error:
        who = "diffae" if is_main() else f"diffae: rank {rank()}"  # any may be the only one that fails
        note(f"{who}: error: {' '.join(str(error).split())}")
        return FAILED
    except BrokenPipeError:  # the reader of standard output, `head` for instance, has gone
        _drop_output()
        return 0
    except KeyboardInterrupt:
        note("diffae: interrupted")
        return exit_code()
    except Exception as error:
        if "--debug" in flags:
            raise
        return _unexpected(error)


def _take_device(words: list[str]) -> None:
    """Remove --device and its value from the words, and use it.

    Raises:
        ConfigError: it has no value, there is no such device, or it has a number, which is not for several processes.
    """
    place = next((place for place, word in enumerate(words) if word.partition("=")[0] == DEVICE), None)
    if place is None:
        return
    name = words[place].partition("=")[2] or "".join(words[place + 1 : place + 2])
    del words[place : place + (1 if "=" in words[place] else 2)]
    if not name:
        raise ConfigError("device is missing: name one after --device, such as cpu or cuda:1")
    if ":" in name and world_size() > 1:
        raise ConfigError(f"device is {name!r}: each of several processes takes its own; leave out the number")
    use_device(name)


def _drop_output() -> None:
    """Drop what standard output does not take; it would be written again at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(error: Exception) -> int:
    """Report an error that no code foresaw in one line; the traceback of a bug goes into a file."""
    if line := LOST if lost_another(error) else refused(error):
        _drop_output()
        note(f"diffae: error: {line}")
        return FAILED
    with tempfile.NamedTemporaryFile("w", prefix="diffae-", suffix=".log", delete=False, encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    note(f"diffae: error: unexpected {what:.300}; this is a bug: please report it with {file.name}")
    return UNEXPECTED


def _run(words: list[str]) -> int:
    group = words[0] if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    rest = words[1:] if group else words
    if rest == ["--version"]:
        say(f"diffae {__version__}")
    elif not rest:
        print(_listing(group), file=sys.stderr)
        return FAILED
    elif rest[0] in ("-h", "--help"):
        print(_listing(group))
    else:
        return _parse(words).run()
    return 0


def _parse(words: Sequence[str]) -> Command:
    """The command that these words name, with its options.

    Raises:
        ConfigError: there is no such command.
        SystemExit: after `--help`, or wrong usage.
    """
    words = current(words)
    grouped = " ".join(words[:2])
    name = grouped if grouped in COMMANDS else words[0]
    if name not in COMMANDS:
        group = any(known.startswith(f"{name} ") for known in COMMANDS)
        near = difflib.get_close_matches(grouped if group else name, [*COMMANDS, *OLD_COMMANDS], 1)
        remedy = f"did you mean `diffae {near[0]}`?" if near else f"see `diffae {f'{name} ' if group else ''}--help`"
        raise ConfigError(f"command {(grouped if group else name)!r} does not exist; {remedy}")
    if name not in _SHARED:
        require_one_process(f"`diffae {name}`")
    import tyro

    module, kind, _ = COMMANDS[name]
    command = getattr(import_module(f"diffae.cli.{module}"), kind)
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    found = tyro.cli(command, prog=f"diffae {name}", args=words[len(name.split()) :], config=config)
    out = getattr(found, "out", None)
    if isinstance(out, Path) and is_remote(out) and name not in _TO_ADDRESSES:
        raise ConfigError(
            f"out is {shown(out)}: must be on a disk; only `diffae encode` and `decode` write to an address"
        )
    return found


def _listing(group: str) -> str:
    """The commands, or those of a group, with their summaries."""
    shown = {name: about for name, (_, _, about) in COMMANDS.items() if not group or name.split()[0] == group}
    width = max(map(len, shown))
    lines = [f"  {name:<{width}}  {about}" for name, about in shown.items()]
    options = "" if group else "[--version] [--trust-code] [--debug] [--device DEVICE] "
    usage = f"usage: {f'diffae {group}'.strip()} [-h] {options}COMMAND ..."
    return "\n".join([usage, *([] if group else ["", DESCRIPTION]), "", "commands:", *lines])
