"""Run folders on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffae.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None) -> str:
    """Upload a folder to the Hugging Face Hub; returns its address.

    Raises:
        CheckpointError: the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _talking(f"{repo_id!r} cannot be uploaded to the Hub"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


@contextmanager
def _talking(what: str) -> Iterator[None]:
    """Raise `CheckpointError` with the first line of what goes wrong with the Hub."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{what} ({str(error).splitlines()[0]})") from error


def locate(source: str | Path, **options: Any) -> Path:
    """The run folder at that path, or a local copy of the repository "owner/name" of the Hub.

    The Hub is asked only where the name can be nothing else: two words with one slash, of which the first is no folder
    here.

    Args:
        source: a path, or "owner/name".
        options: as for `download`.

    Raises:
        CheckpointError: there is no such folder or repository, or it cannot be reached.
    """
    folder, name = Path(source), str(source)
    is_folder = os.path.lexists(folder) or folder.parent.exists()
    return download(name, **options) if _NAME.fullmatch(name) and not is_folder else folder


def download(repo_id: str, *, subfolder: str = "", **options: Any) -> Path:
    """A local copy of a repository of the Hugging Face Hub.

    Args:
        repo_id: "owner/name".
        subfolder: of the repository, which holds the model.
        options: revision, token, cache_dir and local_files_only of `huggingface_hub.snapshot_download`.

    Raises:
        CheckpointError: there is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _talking(f"{repo_id!r} is not a folder and cannot be loaded from the Hub"):
        return Path(snapshot_download(repo_id, allow_patterns=["*.json", "*.safetensors"], **options)) / subfolder
