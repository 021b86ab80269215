"""Run folders on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from diffae.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None) -> str:
    """Upload a folder to the Hugging Face Hub; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def locate(source: str | Path) -> Path:
    """The run folder at that path, or a local copy of the repository "owner/name" of the Hub.

    The Hub is asked only where the name can be nothing else: two words with one slash, of which the first is no folder
    here.

    Raises:
        CheckpointError: there is no such folder or repository, or it cannot be reached.
    """
    folder, name = Path(source), str(source)
    is_folder = os.path.lexists(folder) or folder.parent.exists()
    return download(name) if _NAME.fullmatch(name) and not is_folder else folder


def download(repo_id: str) -> Path:
    """A local copy of a repository of the Hugging Face Hub.

    Raises:
        CheckpointError: there is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{repo_id!r} is not a folder and cannot be loaded from the Hub ({reason})") from error
