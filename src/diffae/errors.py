"""Errors, each with a one-line message: the value received, the rule it breaks, and the remedy.

The command line prints these without a traceback and exits with code 2.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from typing import Any, get_args

SHORT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors of a full disk."""
PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT)
"""Numbers of errors that say nothing about a file: its disk fails, or too much is open."""
_REFUSED = (*SHORT_OF_SPACE, *PASSING, errno.EROFS, errno.EACCES, errno.EPERM)
_MOST = 1000  # characters of a message
# C0 and C1 controls (escape sequences start with one), line and paragraph separators, bidirectional overrides, and
# the surrogates by which Python represents file names that are not valid UTF-8
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """Text with its control characters replaced by escape sequences such as \\x1b, safe to print in a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class DiffaeError(Exception):
    """Base of all errors that a user can cause and correct.

    The message becomes one line of at most 1,000 characters, whatever names and values from files it holds.
    """

    def __init__(self, message: object) -> None:
        line = escaped(" ".join(str(message).split()))
        super().__init__(line if len(line) <= _MOST else f"{line[: _MOST // 2]} ... {line[5 - _MOST // 2 :]}")


class ConfigError(DiffaeError, ValueError):
    """A setting has a forbidden value."""


class DataError(DiffaeError, ValueError):
    """Images, labels or codes cannot be used."""


class CheckpointError(DiffaeError):
    """A run folder or weights file is missing, damaged, or belongs to another model."""


class TrainingError(DiffaeError):
    """Training cannot continue (a loss that is not finite, a full disk)."""


@contextmanager
def reading(
    what: object, remedy: str, kind: type[DiffaeError] = DataError, damage: str = "is damaged"
) -> Iterator[None]:
    """Turn whatever a reader raises on foreign bytes into an error of one line, "WHAT is damaged (reason); REMEDY".

    Decoders and parsers raise nearly anything on such bytes. Errors of this package pass, except for settings in a file
    of a run that are not allowed; what the system refuses is no damage.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiffaeError) and not (isinstance(error, ConfigError) and kind is CheckpointError):
            raise
        if isinstance(error, OSError) and (error.errno is not None or type(error) not in (OSError, BadGzipFile)):
            damage, remedy = "cannot be read", "check the path, its permissions and the disk"
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise kind(f"{what} {damage} ({reason:.300}); {remedy}") from error


def refused(error: BaseException) -> str | None:
    """One line for an error by which the system refuses a file or the output; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    remedy = "free some space" if error.errno in SHORT_OF_SPACE else "check the disk and the permissions"
    return f"{error.filename or 'the output, or a file,'} cannot be used ({error.strerror}); {remedy}"


def require(ok: bool, name: str, value: object, rule: str) -> None:
    """Raise `ConfigError` naming the field, its value and the rule, unless `ok`."""
    if not ok:
        raise ConfigError(f"{name} is {value!r}: {rule}")


def require_choice(name: str, value: object, choices: Any) -> None:
    """Raise `ConfigError` unless `value` is one of those that the `Literal` type `choices` allows."""
    require(value in get_args(choices), name, value, f"choose one of {', '.join(map(str, get_args(choices)))}")
