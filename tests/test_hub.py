"""Which names are repositories of the Hub, which tests do not reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffae import hub
from diffae.errors import CheckpointError


@pytest.mark.parametrize("name", ["nobody-at-all/nothing-here", "bad name/with spaces", "../.."])
def test_repositories_that_do_not_exist(name: str) -> None:
    with pytest.raises(CheckpointError, match="is not a folder and cannot be loaded from the Hub") as caught:
        hub.download(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "is_repository"),
    [
        ("owner/name", True),
        ("name", False),
        ("./run/name", False),
        ("../name", False),
        ("~/name", False),
        ("a/b/c", False),
        ("runs/faces", False),  # there is a folder runs
        ("owner/na me", False),
        ("owner/[/x]", False),
        ("/name", False),
        ("a/", False),
        ("owner/n\0", False),
        ("owner/" + "n" * 300, False),
    ],
)
def test_names_that_are_no_folders_are_repositories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, is_repository: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(hub, "download", lambda name: Path("copy of") / name)
    assert hub.locate(source) == (Path("copy of/owner/name") if is_repository else Path(source))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert hub.locate("owner/name") == Path("owner/name")
