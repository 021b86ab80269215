"""What a visitor does, as the `diffae` command and the lines of Python that do the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from diffae.latent.attributes import AttributeDirections
from diffae.studio.attributes import strength_text
from diffae.studio.schema import Commands


def _line(*words: str) -> str:
    return shlex.join(("diffae", *words))


def _model(run: str) -> str:
    return f"import diffae\n\nmodel = diffae.DiffusionAutoencoder.from_pretrained({run!r})\n"


def edit(
    run: str, picture: str, attributes: AttributeDirections, changes: Mapping[str, float], *, keep: bool
) -> Commands:
    """An edit of a picture file."""
    sets = [word for name, value in changes.items() for word in ("--set", strength_text(attributes, name, value))]
    command = _line("edit", run, picture, *sets, *(["--only"] if keep else []), "--out", "edited.png")
    goals = {
        name: f"p={value:.4g}" if attributes.attributes_[name].binary else float(f"{value:.4g}")
        for name, value in changes.items()
    }
    hold = f", hold=attributes.others({list(changes)!r})" if keep else ""
    python = (
        f"{_model(run)}attributes = diffae.AttributeDirections.load({run!r})\n"
        f"code = model.encode({picture!r})\n"
        f"edits = diffae.edit_images(model, attributes, code, [{goals!r}]{hold})\n"
        "image = edits.images[0]"
    )
    return Commands(command=command, python=python)


def blend(run: str, pictures: Sequence[str]) -> Commands:
    """The way between two picture files."""
    a, b = pictures[:2]
    command = _line("interpolate", run, a, b, "--out", "morph.gif")
    python = f"{_model(run)}code = model.encode([{a!r}, {b!r}])\nframes = model.interpolate(code[:1], code[1:], 9)"
    return Commands(command=command, python=python)


def vary(run: str, picture: str, count: int, seed: int) -> Commands:
    """Variations of a picture file."""
    command = _line("vary", run, picture, "--count", str(count), "--seed", str(seed), "--out", "vary.png")
    python = (
        f"import torch\n{_model(run)}z_sem = model.encode_semantic({picture!r}).expand({count}, -1)\n"
        f"images = model.decode(z_sem=z_sem, generator=torch.Generator().manual_seed({seed}))"
    )
    return Commands(command=command, python=python)


def sample(run: str, count: int, seed: int, truncation: float) -> Commands:
    """New images."""
    options = ("--count", str(count), "--seed", str(seed), "--truncation", f"{truncation:g}", "--out", "samples.png")
    python = (
        f"import torch\n{_model(run)}"
        f"images = model.sample({count}, truncation={truncation:g}, generator=torch.Generator().manual_seed({seed}))"
    )
    return Commands(command=_line("sample", run, *options), python=python)
