"""Planning a reproduction: how long to train and how much to measure in the time there is, and what that can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from diffae.errors import ConfigError
from diffae.evaluation.costs import Scale, Speeds, seconds_of
from diffae.evaluation.protocol import Protocol
from diffae.evaluation.task import counts_of
from diffae.evaluation.tasks import built_in
from diffae.evaluation.tasks.detection import ENOUGH

TRAINING = 0.55
"""Share of the budget for training: autoencoder, DDIM baseline, and autoencoders to compare with."""
PRIOR = 0.05
"""Share of the budget for training the latent prior."""
RESERVE = 0.05
"""Share of the budget kept for reading images, writing pages, and errors of the estimates."""

_LEAST_IMAGES, _LEAST_CODES = 1_000, 10_000  # seen in training: with fewer, nothing is learnt
_BISECTIONS = 20
_ENOUGH = 500  # images, for intervals that can decide
_PAPERS_LEAST = 48_000_000  # images seen by the paper's shortest training (Table 5)


@dataclass(frozen=True)
class Lengths:
    """How long networks are trained."""

    images: int
    """Images seen by the autoencoder, the DDIM baseline, and the plain autoencoders that claim 4 compares with."""
    codes: int
    """Codes seen by the latent prior."""

    @property
    def changes(self) -> tuple[str, ...]:
        """Counts that follow, as `counts_of` takes them: what is compared is trained alike, and only once."""
        return (f"baseline_images={self.images}",)

    def seconds(self, speeds: Speeds) -> float:
        """How long the runs take, without what tasks train."""
        return self.images / speeds.training + self.images / speeds.baseline + self.codes / speeds.prior


@dataclass(frozen=True)
class Study:
    """What is trained and measured."""

    lengths: Lengths
    share: float
    """Of the way from the quick counts, 0, to the full ones, 1."""
    counts: dict[str, Any]
    """Of each task, by its name; tasks that do not fit into the budget are not among them."""
    seconds: float | None
    """About how long it takes; None if there is no budget."""


def plan(most: Lengths, scale: Scale, speeds: Speeds, budget: float, protocol: Protocol = "default") -> Study:
    """Lengths and counts that fit into a budget.

    Args:
        most: lengths of the preset, which are never exceeded.
        scale: images and labels.
        speeds: of this machine.
        budget: seconds, for training and evaluation together.
        protocol: whose full counts.
    Raises:
        ConfigError: not even the least fits.
    """
    each = 1 / speeds.training + 1 / speeds.baseline + 2 / speeds.training
    lengths = Lengths(
        _clamped(TRAINING * budget / each, _LEAST_IMAGES, most.images),
        _clamped(PRIOR * budget * speeds.prior, _LEAST_CODES, most.codes),
    )
    left = (1 - RESERVE) * budget - lengths.seconds(speeds)
    tasks = affordable(left, list(built_in()), lengths, scale, speeds, protocol)
    if not tasks:
        least = lengths.seconds(speeds) / (1 - RESERVE)
        needed = f"more than {in_words(least)}, for networks that see {lengths.images:,} images"
        raise ConfigError(f"budget is {in_words(budget)}: on this machine it must be {needed}; raise it")
    share = share_within(left, tasks, lengths, scale, speeds, protocol)
    assert share is not None
    counts = {name: own for name, own in counts_at(share, lengths, protocol).items() if name in tasks}
    evaluation = sum(seconds_of(counts, scale, speeds).values())
    return Study(lengths, share, counts, lengths.seconds(speeds) + evaluation)


def affordable(
    seconds: float, tasks: Sequence[str], lengths: Lengths, scale: Scale, speeds: Speeds, protocol: Protocol = "default"
) -> list[str]:
    """The tasks, without the longest ones where not even the quick counts of all fit into so many seconds."""
    counts, left = counts_at(0, lengths, protocol), list(tasks)
    while left:
        each = seconds_of({name: counts[name] for name in left}, scale, speeds)
        if sum(each.values()) <= seconds:
            break
        left.remove(max(left, key=lambda name: each[name]))
    return left


def unlimited(most: Lengths, protocol: Protocol = "default") -> Study:
    """The preset's lengths and the full counts."""
    return Study(most, 1.0, counts_at(1.0, most, protocol), None)


def share_within(
    seconds: float, tasks: Sequence[str], lengths: Lengths, scale: Scale, speeds: Speeds, protocol: Protocol = "default"
) -> float | None:
    """The largest share, of the way from quick to full counts, with which tasks take at most so long; or None."""

    def fits(share: float) -> bool:
        return _seconds_at(share, tasks, lengths, scale, speeds, protocol) <= seconds

    if fits(1.0):
        return 1.0
    return _largest(fits) if fits(0.0) else None


def _largest(fits: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _seconds_at(
    share: float, tasks: Sequence[str], lengths: Lengths, scale: Scale, speeds: Speeds, protocol: Protocol
) -> float:
    counts = counts_at(share, lengths, protocol)
    return sum(seconds_of({name: counts[name] for name in tasks}, scale, speeds).values())


def counts_at(share: float, lengths: Lengths, protocol: Protocol = "default") -> dict[str, Any]:
    """Counts of the built-in tasks, a share of the way from the quick to the full ones, in equal ratios."""
    tasks = built_in().values()
    quick = counts_of(tasks, quick=True, changes=lengths.changes)
    full = counts_of(tasks, changes=lengths.changes, protocol=protocol)
    found = {}
    for name, most in full.items():
        least = quick[name]
        values = {f.name: _between(getattr(least, f.name), getattr(most, f.name), share) for f in fields(most)}
        if "learnt" in values:  # the baselines of two tasks are the same
            values["learnt"] = most.learnt
        if "capacity_images" in values:
            values["capacity_images"] = min(values["capacity_images"], lengths.images)
        found[name] = replace(most, **values)
    return found


def _between(quick: Any, full: Any, share: float) -> Any:
    if isinstance(full, tuple):
        return full if share >= 0.5 else quick
    return round(quick * (full / quick) ** share)


def _clamped(value: float, least: int, most: int) -> int:
    return min(max(int(value), least), most)


# ---------------------------------------------------------------------- what it can show


def outlook(study: Study, scale: Scale, *, features: bool) -> list[tuple[int, str, str]]:
    """For each claim its statement, and what a study can decide about it.

    Args:
        study: what is planned.
        scale: images and labels.
        features: whether there is a feature network.
    """
    tasks, counts = built_in(), study.counts
    rows = []
    for number, said in sorted((n, said) for task in tasks.values() for n, said in task.claims.items()):
        missing = [name for name, task in tasks.items() if number in task.claims and name not in counts]
        limit = _limit(number, counts, scale, features) if not missing else f"no: {missing[0]} takes too long"
        rows.append((number, said, limit or "yes"))
    return list(dict.fromkeys(rows))


_NEEDS = {4: "labels", 5: "features", 6: "both", 10: "features", 11: "both"}  # claims, and what they are decided by


def _limit(number: int, counts: dict[str, Any], scale: Scale, features: bool) -> str:
    """What keeps a study from deciding a claim; empty if nothing is known to."""
    needs = _NEEDS.get(number, "")
    if needs in ("labels", "both") and not scale.attributes:
        return "no: needs --labels"
    if needs in ("features", "both") and not features:
        return "no: needs --features"
    deciding = {2: ("interpolation", "pairs"), 5: ("generation", "distribution"), 6: ("manipulation", "distribution"),
                7: ("memorisation", "distribution"), 10: ("generation", "distribution"),
                11: ("conditional", "distribution"), 9: ("detection", "detected")}  # fmt: skip
    if number not in deciding:
        return ""
    task, name = deciding[number]
    images = min(getattr(counts[task], name), scale.train if number == 9 else scale.test)
    if number == 9:
        few = f"only if it holds: detectors see {images:,} real images, in the paper {ENOUGH:,}"
        return few if images < ENOUGH else ""
    return f"only a large difference, with {images:,} images" if images < _ENOUGH else ""


def about_length(lengths: Lengths) -> str:
    """A sentence on how short the training is beside the paper's."""
    times = _PAPERS_LEAST / lengths.images
    beside = f"{times:,.0f} times fewer than" if times > 1.5 else "about as many as"
    return (
        f"Networks see {lengths.images:,} images, {beside} the paper's shortest training ({_PAPERS_LEAST:,}): verdicts "
        "are about networks trained so long."
    )


# ---------------------------------------------------------------------- durations in words


def seconds_in(text: str) -> float:
    """Seconds of a budget such as "2h", "90min" or "1h30min".

    Raises:
        ConfigError: it is none.
    """
    units: Mapping[str, float] = {"h": 3600, "min": 60, "m": 60, "s": 1}
    total, number, rest = 0.0, "", text.replace(" ", "")
    while rest:
        unit = next((unit for unit in units if number and rest.startswith(unit)), "")
        if unit:
            total, number, rest = total + float(number) * units[unit], "", rest[len(unit) :]
        elif rest[0].isdecimal() or (rest[0] == "." and "." not in number and number):
            number, rest = number + rest[0], rest[1:]
        else:
            break
    if rest or number or not total:
        raise ConfigError(f"budget is {text!r}: must be a time such as 2h, 90min or 1h30min")
    return total


def in_words(seconds: float) -> str:
    """A duration in hours and minutes, or in seconds if it is short."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
