"""What can go wrong, as one line each: the value received, the rule it breaks, and the remedy.

The command line prints these without a traceback and exits with code 2.
"""

from __future__ import annotations


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
