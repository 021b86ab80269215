"""What can go wrong, as one line each: the value received, the rule it breaks, and the remedy.

The command line prints these without a traceback and exits with code 2.
"""

from __future__ import annotations

from typing import Any, get_args


class DiffaeError(Exception):
    """Base of every error a user can cause and mend."""


class ConfigError(DiffaeError, ValueError):
    """A setting has a value its rule forbids."""


class DataError(DiffaeError, ValueError):
    """Images, labels or codes cannot be used as given."""


class CheckpointError(DiffaeError):
    """A run folder or weights file is missing, damaged, or belongs to another model."""


class TrainingError(DiffaeError):
    """Training cannot go on (a loss that is not finite, a full disk)."""


def require(ok: bool, name: str, value: object, rule: str) -> None:
    """Raise `ConfigError` naming the field, its value and the rule, unless `ok`."""
    if not ok:
        raise ConfigError(f"{name} is {value!r}: {rule}")


def require_choice(name: str, value: object, choices: Any) -> None:
    """Raise `ConfigError` unless `value` is one of the alternatives of the `Literal` type `choices`."""
    require(value in get_args(choices), name, value, f"choose one of {', '.join(map(str, get_args(choices)))}")
