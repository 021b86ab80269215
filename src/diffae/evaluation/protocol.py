"""Whose choices an evaluation follows where the paper's differ from what this package recommends."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["paper", "default"]

ABOUT: dict[Protocol, str] = {
    "paper": "Protocol: the paper's (published sampler and inversion, T in both networks, samples compared with images "
    "of the data set, edits along w).",
    "default": "Protocol: default (this package's sampler and inversion, unseen images, edits along C w).",
}
"""A sentence for every table."""
