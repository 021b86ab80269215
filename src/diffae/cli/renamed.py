"""Names of version 0.1 that still work, with a warning, until 0.3."""

from __future__ import annotations

from collections.abc import Sequence

from diffae.cli.terminal import warn

COMMANDS = {
    "fit-attributes": "attributes fit",
    "nearest": "sample --nearest",
    "import-official": "import",
    "export-official": "export",
}
OPTIONS = {
    "--grid": "--spacing",
    "--contrast": "--contrastive",
    "--orientations": "--hog",
    "--teacher": "--distill-from",
    "--foreign": "--out-of-distribution",
}
FLAGS = {"--tensorboard": ("--track", "tensorboard")}
VALUES = {("--inversion", "pair"): "bdia"}

_NEAREST = {"--out": "--nearest", "--samples": "--count"}  # options of the former command `nearest`


def current(words: Sequence[str]) -> list[str]:
    """A command line with present names instead of old ones; prints a warning for each old name."""
    command, *rest = words
    if command == "attributes" and len(rest) == 1 and not rest[0].startswith("-") and rest[0] not in ("fit", "show"):
        _warn("attributes RUN", "attributes show RUN")
        return ["attributes", "show", *rest]
    options = dict(_NEAREST) if command == "nearest" else {}
    if command in COMMANDS:
        _warn(command, COMMANDS[command])
        command = COMMANDS[command].partition(" --")[0]
    return [*command.split(), *_options(rest, options)]


def _options(words: list[str], quiet: dict[str, str]) -> list[str]:
    """Options and values under their present names; those of `quiet` without a warning."""
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if word in FLAGS:
            _warn(word, " ".join(FLAGS[word]))
            found += FLAGS[word]
            continue
        if name in OPTIONS:
            _warn(name, OPTIONS[name])
        name = OPTIONS.get(name) or quiet.get(name, name)
        before = name if equals else found[-1] if found else ""
        old = value if equals else name
        if (before, old) in VALUES:
            _warn(f"{before} {old}", f"{before} {VALUES[before, old]}")
            name, value = (name, VALUES[before, old]) if equals else (VALUES[before, old], "")
        found.append(f"{name}{equals}{value}")
    return found


def _warn(old: str, new: str) -> None:
    warn(f"`{old}` is now `{new}`; the old name goes in 0.3")
