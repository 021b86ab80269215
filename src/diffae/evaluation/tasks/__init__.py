"""The built-in tasks of an evaluation: the paper's tables and figures. Each module holds one, as `TASK`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffae.evaluation.task import Task

TASK_NAMES = (
    "reconstruction",
    "capacity",
    "denoising",
    "generation",
    "conditional",
    "attributes",
    "manipulation",
    "interpolation",
    "variation",
    "memorisation",
    "out-of-distribution",
    "detection",
    "throughput",
)
"""In the order of the report; each task's module has its name. Names alone, since `diffae --help` needs no PyTorch."""


def built_in() -> dict[str, Task]:
    """The tasks by name, in the order of the report."""
    return {name: import_module(f"{__name__}.{name.replace('-', '_')}").TASK for name in TASK_NAMES}
