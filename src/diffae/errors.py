"""Errors, each with a one-line message: the value received, the rule it breaks, and the remedy.

The command line prints these without a traceback and exits with code 2.
"""

from __future__ import annotations

from typing import Any, get_args


class DiffaeError(Exception):
    """Base of all errors that a user can cause and correct."""


class ConfigError(DiffaeError, ValueError):
    """A setting has a forbidden value."""


class DataError(DiffaeError, ValueError):
    """Images, labels or codes cannot be used."""


class CheckpointError(DiffaeError):
    """A run folder or weights file is missing, damaged, or belongs to another model."""


class TrainingError(DiffaeError):
    """Training cannot continue (a loss that is not finite, a full disk)."""


def require(ok: bool, name: str, value: object, rule: str) -> None:
    """Raise `ConfigError` naming the field, its value and the rule, unless `ok`."""
    if not ok:
        raise ConfigError(f"{name} is {value!r}: {rule}")


def require_choice(name: str, value: object, choices: Any) -> None:
    """Raise `ConfigError` unless `value` is one of those that the `Literal` type `choices` allows."""
    require(value in get_args(choices), name, value, f"choose one of {', '.join(map(str, get_args(choices)))}")
