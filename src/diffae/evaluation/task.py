"""What a task of an evaluation is, and how its counts are declared and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from diffae.deprecation import __version__
from diffae.errors import ConfigError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.protocol import Protocol
from diffae.evaluation.results import Result


def count(quick: Any, full: Any, of: Literal["train", "test", "both"] | None = None) -> Any:
    """A field of a task's counts: how much the task measures.

    Args:
        quick: the value with `--quick`.
        full: the value otherwise.
        of: which images it counts; drawn faces are drawn in these numbers.
    """
    return field(default=full, metadata={"quick": quick, "of": of})


@dataclass(frozen=True)
class NoCounts:
    """Of a task whose amount of work cannot be changed."""


@dataclass(frozen=True)
class Task:
    """One question of an evaluation."""

    name: str
    """On the command line, and in file names."""
    title: str
    place: str
    """Of its tables and figures in the paper."""
    run: Callable[[EvaluationContext, Any], Result]
    """Called with the context and the task's counts. Raises `Skipped` where something it needs was not given."""
    counts: type = NoCounts
    """A frozen dataclass whose fields have defaults, best made by `count`."""
    claims: Mapping[int, str] = field(default_factory=dict)
    """The paper's claims that it decides, by number."""
    paper: Mapping[str, Any] = field(default_factory=dict)
    """Counts of the paper's protocol, where they differ from the full ones."""
    version: str = __version__
    """Results of another version are computed again."""


# ---------------------------------------------------------------------- counts that several tasks share


@dataclass(frozen=True)
class DistributionCounts:
    """For distances between sets of images."""

    distribution: int = count(48, 2_000, "both")
    """Samples, and as many real images, for a Frechet or kernel distance."""


@dataclass(frozen=True)
class LabelledCounts:
    """For what is fitted to z_sem of training images."""

    labelled: int = count(800, 5_000, "train")
    """Training images that linear probes and directions are fitted to."""


@dataclass(frozen=True)
class ProbeCounts(LabelledCounts):
    """For linear probes."""

    tested: int = count(400, 1_500, "test")
    """Unseen images that linear probes are tested on."""


@dataclass(frozen=True)
class ReconstructedCounts:
    """For reconstructions."""

    reconstructed: int = count(6, 256, "test")
    """Unseen images that are reconstructed."""


@dataclass(frozen=True)
class BaselineCounts:
    """For autoencoders to compare with."""

    learnt: int = count(1_000, 20_000, "train")
    """Training images that a baseline is fitted to."""
    baseline_images: int = count(1_600, 250_000)
    """Images seen in training a baseline."""


# ---------------------------------------------------------------------- their values


def counts_of(
    tasks: Iterable[Task], *, quick: bool = False, changes: Sequence[str] = (), protocol: Protocol = "default"
) -> dict[str, Any]:
    """The counts of each task, by the task's name.

    Args:
        tasks: whose counts.
        quick: whether to start from the quick values.
        changes: NAME=NUMBER, or TASK.NAME=NUMBER for one task only; 64,128 where a count is a tuple.
        protocol: whose full counts.
    Raises:
        ConfigError: a name that is unknown or stands for different counts, or a number that is not positive.
    """
    tasks = tuple(tasks)
    found = {
        task.name: task.counts(
            **{f.name: f.metadata.get("quick", f.default) for f in fields(task.counts)}
            if quick
            else task.paper
            if protocol == "paper"
            else {}
        )
        for task in tasks
    }
    for change in changes:
        name, _, text = change.partition("=")
        owners = _owners(tasks, name)
        numbers = [int(part) for part in text.split(",") if part.isascii() and part.isdigit() and int(part) > 0]
        several = bool(owners) and isinstance(owners[0][1].default, tuple)
        if not owners or len(numbers) != text.count(",") + 1 or (len(numbers) > 1 and not several):
            known = dict.fromkeys(f.name for task in tasks for f in fields(task.counts))
            raise ConfigError(
                f"counts: {change!r}: must be NAME=NUMBER, a positive one, with a name of {', '.join(known)}"
            )
        for task, part in owners:
            found[task] = replace(found[task], **{part.name: tuple(numbers) if several else numbers[0]})
    return found


def _owners(tasks: Sequence[Task], name: str) -> list[tuple[str, Any]]:
    """The tasks, and their fields, that a count's name stands for."""
    task_name, _, own = name.rpartition(".")
    found = [(t.name, f) for t in tasks if task_name in ("", t.name) for f in fields(t.counts) if f.name == own]
    if len({id(part) for _, part in found}) > 1:  # a shared count is inherited: the same field
        names = " or ".join(f"{task}.{own}" for task, _ in found)
        raise ConfigError(f"counts: {name!r} is a different count in several tasks: write {names}")
    return found


def images_needed(counts: Mapping[str, Any], of: Literal["train", "test"]) -> int:
    """The most training images, or unseen ones, that any task counts."""
    return max(
        (getattr(own, f.name) for own in counts.values() for f in fields(own) if f.metadata.get("of") in (of, "both")),
        default=0,
    )


def described(counts: Mapping[str, Any]) -> str:
    """All counts in one line; a count that differs between tasks once for each task."""
    values: dict[str, dict[str, str]] = {}
    for task, own in counts.items():
        for f in fields(own):
            values.setdefault(f.name, {})[task] = str(getattr(own, f.name)).strip("(,)")
    words = []
    for name, by_task in values.items():
        same = len(set(by_task.values())) == 1
        words += [f"{name} {value}" if same else f"{task}.{name} {value}" for task, value in by_task.items()]
    return ", ".join(dict.fromkeys(words))
