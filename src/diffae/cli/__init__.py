"""The `diffae` command. Nothing heavy is imported before a command runs, so that `diffae --help` answers at once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from diffae.errors import DiffaeError

FAILED = 2
INTERRUPTED = 130

DESCRIPTION = """Diffusion autoencoders: a representation of your images that is meaningful and decodable.

Start with `diffae train PHOTOS --out runs/photos`, or see it work with `diffae demo --out demo`."""


_TOLD = ("diffae.data.labels", "diffae.data.sources")  # whose warnings no command prints by itself


class _Warnings(logging.Handler):
    """Prints what is logged as a warning."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        from diffae.cli.common import warn

        warn(record.getMessage())


class Command(Protocol):
    """A parsed command line."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        ...


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: the words after `diffae`; those of the process when None.

    Returns:
        0 when done; 2 on bad input, named in one line on standard error; 130 when interrupted. Wrong usage exits
        with 2, after the parser's own message.
    """
    logging.getLogger("diffae").addHandler(logging.NullHandler())  # commands print what users should see
    for name in _TOLD:
        if not logging.getLogger(name).handlers:
            logging.getLogger(name).addHandler(_Warnings())
    try:
        return _parse(args).run()
    except DiffaeError as error:
        rank = os.environ.get("RANK", "0")  # of several processes, any may be the only one that fails
        who = "diffae" if rank == "0" else f"diffae: rank {rank}"
        print(f"{who}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader of standard output, `head` for instance, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("diffae: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parse(args: Sequence[str] | None) -> Command:
    import tyro

    from diffae.cli.attributes import Attributes, FitAttributes
    from diffae.cli.codes import Decode, Encode
    from diffae.cli.data import Data
    from diffae.cli.demo import Demo
    from diffae.cli.directions import ShowDirections
    from diffae.cli.edit import Edit
    from diffae.cli.evaluate import Evaluate
    from diffae.cli.explore import DenoisePath, Interpolate, Vary
    from diffae.cli.info import Info
    from diffae.cli.nearest import Nearest
    from diffae.cli.official import ExportOfficial, ImportOfficial
    from diffae.cli.prior import TrainPrior
    from diffae.cli.reconstruct import Reconstruct
    from diffae.cli.sample import Sample
    from diffae.cli.train import Train

    commands: dict[str, Any] = {
        "train": Train,
        "reconstruct": Reconstruct,
        "encode": Encode,
        "decode": Decode,
        "interpolate": Interpolate,
        "vary": Vary,
        "denoise-path": DenoisePath,
        "train-prior": TrainPrior,
        "sample": Sample,
        "nearest": Nearest,
        "fit-attributes": FitAttributes,
        "attributes": Attributes,
        "edit": Edit,
        "directions": ShowDirections,
        "evaluate": Evaluate,
        "import-official": ImportOfficial,
        "export-official": ExportOfficial,
        "data": Data,
        "info": Info,
        "demo": Demo,
    }
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="diffae",
        description=DESCRIPTION,
        args=args,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
