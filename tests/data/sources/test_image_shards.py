"""Many images in shards: the same pixels as those read at once, and none decoded twice."""

import os

import numpy as np
import pytest
from PIL import Image

from deep_clustering.data.sources import image_files, image_shards, load_source
from deep_clustering.data.sources.image_shards import Folder, read_in_shards
from deep_clustering.training import scratch

HOW = {"shape": (6, 8), "channels": 3, "fit": "crop", "ranges": {}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten images, two of which are none, of which a shard has three, decoded by this process."""
    monkeypatch.setattr(image_shards, "_SHARD_FILES", 3)
    monkeypatch.setattr(image_files, "cores", lambda: 1)
    noise = np.random.default_rng(0).integers(0, 256, (10, 9, 11, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"images/{index}.png")
    (tmp_path / "images/4.png").write_bytes(b"no image")
    (tmp_path / "images/9.png").write_bytes(b"")
    return Folder(tmp_path / "images", [f"{index}.png" for index in range(10)], **HOW)


def shards(cache):
    return sorted(cache.glob("*/*.npz"))


def assert_all_read(found, folder):
    expected = image_files.read_images(folder.root, folder.files, **HOW)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1:] == expected[1:]


def test_shards_have_the_pixels_of_all_at_once(folder, tmp_path):
    assert_all_read(read_in_shards(folder, tmp_path / "cache"), folder)
    assert [path.name for path in shards(tmp_path / "cache")] == [
        "images_000000000_000000003.npz",
        "images_000000003_000000006.npz",
        "images_000000006_000000009.npz",
        "images_000000009_000000010.npz",
    ]
    (skipped,) = (tmp_path / "cache").glob("*/skipped.csv")
    assert skipped.read_text().splitlines() == [
        "file,reason",
        '"4.png","not an image, or of a kind that is not read"',
        '"9.png","empty file"',
    ]


def test_other_processes_make_the_same_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "cores", lambda: 2)
    assert_all_read(read_in_shards(folder, tmp_path / "cache"), folder)


def test_large_results_are_mapped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 0)
    found = read_in_shards(folder, tmp_path / "cache")
    assert isinstance(found[0], np.memmap)
    assert_all_read(found, folder)


def test_a_killed_one_goes_on_with_what_is_missing(folder, tmp_path, monkeypatch):
    make, left = image_shards._make, iter(range(2))

    def made(*given):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return make(*given)

    with monkeypatch.context() as patched:
        patched.setattr(image_shards, "_make", made)
        with pytest.raises(KeyboardInterrupt):
            read_in_shards(folder, tmp_path / "cache")
    kept = {path: path.stat().st_mtime_ns for path in shards(tmp_path / "cache")}
    assert len(kept) == 2
    assert_all_read(read_in_shards(folder, tmp_path / "cache"), folder)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-30], lambda content: content[:300] + bytes([content[300] ^ 1]) + content[301:]],
)
def test_a_damaged_shard_is_made_again(folder, tmp_path, damage, caplog):
    read_in_shards(folder, tmp_path / "cache")
    path = shards(tmp_path / "cache")[1]
    path.write_bytes(damage(path.read_bytes()))
    assert_all_read(read_in_shards(folder, tmp_path / "cache"), folder)
    assert f"{path} is cut short or damaged" in caplog.text


def test_changed_files_and_other_sizes_have_shards_of_their_own(folder, tmp_path):
    digests = {
        folder.digest(),
        folder._replace(shape=(6, 7)).digest(),
        folder._replace(files=folder.files[1:]).digest(),
    }
    os.utime(folder.root / "3.png", (0, 0))
    assert len(digests | {folder.digest()}) == 4


def test_a_source_of_many_images_keeps_them_and_one_of_few_does_not(folder, tmp_path, monkeypatch):
    source = {
        "kind": "image_folder",
        "name": "noise",
        "path": str(folder.root),
        "size": [6, 8],
        "channels": 3,
        "fit": "crop",
        "labels": "none",
        "on_error": "skip",
        "extensions": ["png"],
    }
    few, card = load_source({"n_rows": 0, "source": {**source, "cache": str(tmp_path / "cache")}})
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(image_shards, "LEAST_FILES", 10)
    many, other = load_source({"n_rows": 0, "source": {**source, "cache": str(tmp_path / "cache")}})
    assert len(shards(tmp_path / "cache")) == 4
    np.testing.assert_array_equal(many.samples, few.samples)
    assert other == card
    assert (many.ids, many.skipped) == (few.ids, few.skipped)
