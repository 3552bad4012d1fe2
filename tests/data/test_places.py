"""Paths as people write them."""

from pathlib import Path

import pytest

from deep_clustering.data.places import absolute, at_home
from deep_clustering.data.sources.prepared import existing


def test_links_are_followed_and_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.npy").touch()
    (tmp_path / "link").symlink_to("rows.npy")
    assert absolute("~/link") == tmp_path / "rows.npy"
    assert at_home("~/link") == tmp_path / "link"


@pytest.mark.parametrize("path", ["{}/ring", "{}/ring/rows.npy", "~nobody-of-this-name/rows.npy"])
def test_what_leads_nowhere_is_no_file(tmp_path, path):
    (tmp_path / "ring").symlink_to("ring")
    place = path.format(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"no file at .*{Path(place).name}; expected rows"):
        existing(place, "rows")
