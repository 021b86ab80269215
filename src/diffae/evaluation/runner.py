"""Running tasks and writing results.json: results whose parts are unchanged are reused, missing parts are reported."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from diffae.checkpoint import written_beside
from diffae.deprecation import __version__
from diffae.errors import DataError, DiffaeError, TrainingError, reading
from diffae.evaluation.context import PARTS, EvaluationContext
from diffae.evaluation.protocol import ABOUT
from diffae.evaluation.results import Outcome, Result, csv_rows, listed, picture_path
from diffae.evaluation.task import Task, counts_of
from diffae.evaluation.tasks import built_in

RESULTS = "results.json"

_COUNT = "counts."  # before the name of a count, among the names of parts


def evaluate(
    context: EvaluationContext,
    tasks: Sequence[Task] | None = None,
    *,
    counts: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    log: Callable[[str], None] = lambda _: None,
    on_write: Callable[[dict[str, Outcome]], None] = lambda _: None,
) -> dict[str, Outcome]:
    """Run tasks and write results.json, CSVs and PNGs after each.

    A task is not run again if everything it read (parts of the context, counts) is the same as in an earlier
    evaluation into the same folder.

    Args:
        context: what the tasks work on; its `out` is the folder.
        tasks: built-in tasks or your own; by default all built-in ones.
        counts: for each task's name its counts, see `counts_of`; by default the full ones.
        about: plain values to note in results.json.
        log: called with a line for each task.
        on_write: called with all outcomes so far whenever they are written.
    Returns:
        The outcomes of these tasks, and of others that an earlier evaluation of the same parts left in the folder.
    Raises:
        DataError: results.json cannot be read, or holds what this evaluation would discard: results of other tasks
            with other settings, or of a full evaluation if this one is quick.
        TrainingError: the disk is full, or a training diverged.
    """
    about, known = about or {}, {**built_in(), **{task.name: task for task in tasks or ()}}
    tasks = tuple(known.values()) if tasks is None else tasks
    counts = {**counts_of(known.values()), **(counts or {})}
    key = cache(lambda task, part: _key(context, known[task], counts[task], part))
    names = [task.name for task in tasks]
    outcomes = _reusable(context.out, known, names, key, quick=bool(about.get("quick")))

    def write() -> dict[str, Outcome]:
        found = {name: outcomes[name] for name in known if name in outcomes}
        _write(context.out, found, about)
        on_write(found)
        return found

    for number, name in enumerate(names, 1):
        where = f"[{number}/{len(names)}] {name}"
        if name in outcomes and outcomes[name].skipped is None:
            log(f"{where}: there already")
            continue
        log(f"{where} ...")
        outcomes[name] = found = _run(context, known[name], counts[name], key)
        write()
        log(f"{where}: left out, {found.skipped}" if found.skipped else f"{where}: {found.seconds:.0f} s")
    return write()


Key = Callable[[str, str], str | None]
"""(task, part) => the part's key now."""


def _reusable(
    out: Path, known: Mapping[str, Task], names: Sequence[str], key: Key, *, quick: bool
) -> dict[str, Outcome]:
    """Earlier outcomes whose parts are unchanged and whose files are there.

    Raises:
        DataError: results.json is damaged, or running the tasks of these names would discard other results.
    """
    there, was_quick = _read(out)
    same = [name for name, found in there.items() if name in known and _unchanged(found, key)]
    stale = [name for name, found in there.items() if name not in same and found.skipped is None]
    others = [name for name in stale if name not in names]
    if others:
        rule = "they would be lost; name them too, or choose another --out"
        raise DataError(f"{out} holds {listed(others)}, found with other settings, images or another model: {rule}")
    if stale and quick and was_quick is False:
        raise DataError(f"{out} holds a full evaluation, which a quick one would replace: choose another --out")
    return {name: there[name] for name in same if _complete(out, there[name])}


def _key(context: EvaluationContext, task: Task, counts: Any, part: str) -> str | None:
    """Changes with the content of a part, or the value of a count; None for a name that is unknown."""
    if part == "version":
        return task.version
    if part.startswith(_COUNT):
        return str(getattr(counts, part.removeprefix(_COUNT), None))
    return context.key(part) if part in PARTS else None


def _unchanged(outcome: Outcome, key: Key) -> bool:
    return bool(outcome.parts) and all(key(outcome.task, part) == value for part, value in outcome.parts.items())


class _RecordedCounts:
    """A task's counts; notes those that are read."""

    def __init__(self, counts: Any, reads: set[str]) -> None:
        self._counts, self._reads = counts, reads

    def __getattr__(self, name: str) -> Any:
        self._reads.add(_COUNT + name)
        return getattr(self._counts, name)


def _run(context: EvaluationContext, task: Task, counts: Any, key: Key) -> Outcome:
    context, start = context.recording(), (time.monotonic(), time.process_time())
    try:
        result, skipped = task.run(context, _RecordedCounts(counts, context.reads)), None
        about = ABOUT[context.protocol]
        tables = tuple(replace(table, note=f"{table.note} {about}".strip()) for table in result.tables)
        result = replace(result, tables=tables)
    except TrainingError:
        raise
    except DiffaeError as error:
        result, skipped = Result(), " ".join(str(error).split())
    seconds = time.monotonic() - start[0], time.process_time() - start[1]
    parts = {part: str(key(task.name, part)) for part in sorted({"version", *context.reads})}
    _write_files(context.out, task.name, result)
    return Outcome(task.name, parts, *seconds, result, skipped)


def _write_files(out: Path, task: str, result: Result) -> None:
    for old in (*out.glob(f"{task}-*.csv"), *out.glob(f"{task}-*.png")):
        old.unlink()
    for picture in result.pictures:
        with written_beside(picture_path(out, task, picture.name)) as temporary:
            assert picture.image is not None
            picture.image.save(temporary, "PNG", optimize=True)
    for table in result.tables:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(csv_rows(table))
        with written_beside(_table_path(out, task, table.name)) as temporary:
            temporary.write_text(buffer.getvalue(), encoding="utf-8")


def _table_path(out: Path, task: str, name: str) -> Path:
    return out / f"{task}-{name}.csv"


def _complete(out: Path, outcome: Outcome) -> bool:
    """Whether its pictures and CSVs are still there."""
    pictures = (picture_path(out, outcome.task, picture.name) for picture in outcome.result.pictures)
    tables = (_table_path(out, outcome.task, table.name) for table in outcome.result.tables)
    return all(path.is_file() for path in (*pictures, *tables))


def _write(out: Path, outcomes: Mapping[str, Outcome], about: Mapping[str, Any]) -> None:
    found = {name: outcome.to_json() for name, outcome in outcomes.items()}
    with written_beside(out / RESULTS) as temporary:
        text = json.dumps({"diffae": __version__, **about, "tasks": found}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _read(out: Path) -> tuple[dict[str, Outcome], bool | None]:
    """Earlier outcomes, and whether that evaluation was a quick one, if it says so."""
    path = out / RESULTS
    if not path.is_file():
        return {}, None
    with reading(path, "remove it, or choose another --out"):
        plain = json.loads(path.read_text(encoding="utf-8"))
        return {name: Outcome.from_json(name, found) for name, found in plain["tasks"].items()}, plain.get("quick")
