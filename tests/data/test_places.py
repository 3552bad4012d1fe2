"""Paths as people write them."""

import os
from pathlib import Path

import pytest

from deep_clustering.data.places import absolute, at_home, check_folder
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


@pytest.mark.parametrize(
    "make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("nothing"), Path.mkdir, Path.exists]
)
def test_what_is_no_folder_is_refused_in_the_place_of_one(tmp_path, make):
    place = tmp_path / "cache"
    make(place)
    if make in (Path.mkdir, Path.exists):  # there, and not there yet
        check_folder(place, "neighbours.cache")
        return
    with pytest.raises(ValueError, match=rf"^neighbours\.cache: expected a folder, got something else: {place}$"):
        check_folder(place, "neighbours.cache")
