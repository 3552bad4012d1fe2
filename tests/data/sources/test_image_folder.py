"""Folders of images: every kind of file, what cannot be read, classes, links, and what is refused."""

import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deep_clustering.data.sources import image_files, load_source
from deep_clustering.data.sources.greys import find_ranges, is_deep

# Kinds of images; each file shows one grey or colour all over, so that the expected pixels are known.

GREEN = (0, 200, 0)


def write_truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def write_gif(path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (GREEN, "red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def write_palette(path: Path, **options) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([255, 0, 0, *GREEN])
    image.save(path, **options)


def write_oriented(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (0, 0, 8, 8))  # left half white: upright, the upper one
    image.save(path, exif=exif)


GOOD = {
    "rgb.png": (lambda path: Image.new("RGB", (16, 16), GREEN).save(path), GREEN),
    "grey.bmp": (lambda path: Image.new("L", (20, 16), 77).save(path), (77, 77, 77)),
    "clear.png": (lambda path: Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(path), (255, 255, 255)),
    "half.png": (lambda path: Image.new("RGBA", (16, 16), (0, 0, 0, 102)).save(path), (153, 153, 153)),
    "grey_alpha.png": (lambda path: Image.new("LA", (16, 16), (9, 0)).save(path), (255, 255, 255)),
    "deep.png": (lambda path: Image.fromarray(np.full((16, 16), 128 * 257, np.uint16)).save(path), (128, 128, 128)),
    "deep.tif": (lambda path: Image.fromarray(np.full((16, 16), 257, np.uint16)).save(path), (1, 1, 1)),
    "float.tif": (lambda path: Image.fromarray(np.full((16, 16), 0.2, np.float32)).save(path), (51, 51, 51)),
    "palette.png": (write_palette, GREEN),
    "palette_clear.png": (lambda path: write_palette(path, transparency=1), (255, 255, 255)),
    "print.jpg": (lambda path: Image.new("CMYK", (16, 16), (0, 0, 0, 0)).save(path), (255, 255, 255)),
    "bit.png": (lambda path: Image.new("1", (16, 16), 1).save(path), (255, 255, 255)),
    "moving.gif": (write_gif, GREEN),
    "LOUD.PNG": (lambda path: Image.new("RGB", (16, 16), GREEN).save(path), GREEN),
    "one_pixel.png": (lambda path: Image.new("RGB", (1, 1), GREEN).save(path), GREEN),
    "thin.webp": (lambda path: Image.new("RGB", (300, 2), GREEN).save(path, lossless=True), GREEN),
}

BAD = {
    "empty.png": (lambda path: path.write_bytes(b""), "empty file"),
    "text.png": (lambda path: path.write_text("not an image"), "not an image"),
    "cut.jpg": (write_truncated, "damaged: "),
    "holes.tif": (lambda path: Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path), "not finite"),
    "nowhere.png": (lambda path: path.symlink_to("nothing.png"), "link to nothing"),
    "round.png": (lambda path: path.symlink_to(path), "link to nothing"),
    "drawing.png": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image"),
}


def load_folder(path: Path, **changes):
    options = {"name": "mine", "size": 8, "channels": 3, "fit": "crop", "labels": "none", "on_error": "skip"}
    options |= {"extensions": ["png", "bmp", "jpg", "tif", "gif", "webp"], "path": str(path)}
    return load_source({"source": {"kind": "image_folder", **options, **changes}, "n_rows": 0})


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_image_shows_its_colour(tmp_path, name):
    write, colour = GOOD[name]
    write(tmp_path / name)
    pixels = image_files.decode(tmp_path / name, shape=(4, 6), channels=3, fit="crop")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 4, 6)
    np.testing.assert_allclose(pixels, np.broadcast_to(np.reshape(colour, (3, 1, 1)), pixels.shape), atol=1)
    grey = image_files.decode(tmp_path / name, shape=(4, 6), channels=1, fit="stretch")
    np.testing.assert_allclose(grey, np.dot(colour, [0.299, 0.587, 0.114]), atol=2)


def test_orientation_is_taken_from_exif(tmp_path):
    write_oriented(tmp_path / "photo.png")
    pixels = image_files.decode(tmp_path / "photo.png", shape=(16, 8), channels=1, fit="stretch")[0]
    np.testing.assert_array_equal(pixels, np.repeat([[255], [0]], 8, axis=0).repeat(8, axis=1))


def test_other_proportions_are_cropped_padded_or_stretched(tmp_path):
    image = Image.new("L", (24, 8), 0)
    image.paste(200, (8, 0, 16, 8))  # the middle third
    image.save(tmp_path / "wide.png")
    crop, pad, stretch = (
        image_files.decode(tmp_path / "wide.png", shape=(8, 8), channels=1, fit=fit)[0]
        for fit in get_args(image_files.Fit)
    )
    np.testing.assert_array_equal(crop, 200)
    assert not pad[:2].any()
    assert not pad[-2:].any()
    assert pad[4, 4] == stretch[4, 4] == 200
    assert stretch[0, 0] == stretch[7, 7] == 0


def test_what_cannot_be_read_is_skipped_and_named_with_its_reason(tmp_path, caplog):
    for name, (write, _) in (GOOD | BAD).items():
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._rgb.png").write_text("a resource fork")
    loaded, card = load_folder(tmp_path)
    assert card["files"] == sorted(GOOD)
    assert loaded.samples.shape == (len(GOOD), 3, 8, 8)
    # The greys of 16 bits share the range from the lowest to the highest of them.
    spread = {"deep.png": (255, 255, 255), "deep.tif": (0, 0, 0)}
    for row, name in zip(loaded.samples, sorted(GOOD), strict=True):
        np.testing.assert_allclose(row[:, 4, 4], spread.get(name, GOOD[name][1]), atol=1)
    assert card["n_unreadable"] == len(BAD)
    for line, (name, (_, reason)) in zip(card["unreadable"], sorted(BAD.items()), strict=True):
        assert line.startswith(f"{name}: ")
        assert reason in line
        assert name in caplog.text
        assert str(tmp_path) not in line
    assert (card["n_other_files"], card["other_files"]) == (2, ["._rgb.png", "notes.txt"])
    with pytest.raises(ValueError, match=rf"{len(BAD)} of {len(GOOD) + len(BAD)} images .*cut\.jpg: damaged"):
        load_folder(tmp_path, on_error="refuse")


# Grey levels of more than 8 bits


def ramp(index: int, low: float, high: float) -> np.ndarray:
    """Grey levels from low to high, shape (8, 8), turned by some places so that files differ."""
    return np.roll(np.linspace(low, high, 64), 7 * index).reshape(8, 8)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "kind"),
    [
        (np.uint16, 400, 560, "integers"),
        (np.int32, -70_000, 4_000_000, "integers"),
        (np.float32, -9.0, 3.5, "fractions"),
        (np.float32, 0.0, 4095.0, "fractions"),
    ],
)
def test_greys_are_read_by_the_range_that_all_files_show(tmp_path, dtype, low, high, kind):
    greys = [ramp(index, low, high).astype(dtype) for index in range(5)]
    greys[3] = np.clip(greys[3], None, (low + high) / 2).astype(dtype)  # its own range is another
    for index, grey in enumerate(greys):
        Image.fromarray(grey).save(tmp_path / f"{index}.tif")
    loaded, card = load_folder(tmp_path, channels=1)
    assert card["reading"]["grey_ranges"] == {kind: [low, high]}
    assert card["n_unreadable"] == 0
    expected = (np.stack(greys).astype(np.float64) - low) / (high - low) * 255
    np.testing.assert_allclose(loaded.samples[:, 0], expected, atol=0.51)
    assert len(np.unique(loaded.samples)) > 50


def test_one_dead_pixel_does_not_take_the_greys_from_all_others(tmp_path):
    for index in range(40):
        grey = ramp(index, 400, 560).astype(np.uint16)
        if index == 7:
            grey[2, 2] = 65535
        Image.fromarray(grey).save(tmp_path / f"{index:02d}.png")
    loaded, card = load_folder(tmp_path, channels=1)
    low, high = card["reading"]["grey_ranges"]["integers"]
    assert 400 <= low < 405
    assert 555 < high <= 560
    assert loaded.samples[7, 0, 2, 2] == 255


def test_files_of_8_bits_keep_their_greys_beside_deep_ones(tmp_path):
    paint(tmp_path / "a.png", 100)
    Image.fromarray(ramp(0, 400, 560).astype(np.uint16)).save(tmp_path / "b.png")
    assert load_folder(tmp_path, channels=1)[0].samples[0].max() == 100
    (tmp_path / "b.png").unlink()
    assert load_folder(tmp_path)[1]["reading"]["grey_ranges"] == {}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_only_greys_of_16_bits_are_looked_for_in_png(tmp_path, mode):
    """Pillow, which is asked only about the files that may have them, is the one that knows."""
    Image.new(mode, (8, 8), 1).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        expected = {"integers": [0.0, 65535.0]} if is_deep(image) else {}
    assert find_ranges(tmp_path, ["a.png"]) == expected
    assert bool(expected) == (mode == "I;16")


def test_a_folder_of_one_grey_level_has_the_range_of_its_type(tmp_path):
    Image.fromarray(np.full((8, 8), 257 * 80, np.uint16)).save(tmp_path / "a.png")
    assert load_folder(tmp_path, channels=1)[0].samples[0, 0, 0, 0] == 80


@pytest.mark.parametrize("name", ["100% of a, b", "a%20b?c#d", "~x"])
def test_folders_may_have_any_name(tmp_path, monkeypatch, name):
    paint(tmp_path / name / "a, b?.png", 7)
    assert load_folder(tmp_path / name)[1]["files"] == ["a, b?.png"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_folder(Path("~") / name)[1]["files"] == ["a, b?.png"]


def test_too_many_pixels_are_a_reason_and_no_crash(tmp_path, monkeypatch):
    for side in (15, 30):  # above the limit Pillow warns, above twice the limit it raises
        Image.new("L", (side, side)).save(tmp_path / f"{side}.png")
    Image.new("L", (4, 4)).save(tmp_path / "small.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    _, card = load_folder(tmp_path)
    assert card["files"] == ["small.png"]
    assert card["unreadable"] == [f"{side}.png: more than the 200 pixels that are taken for safe" for side in (15, 30)]


def test_threads_keep_the_order_of_files_and_name_those_that_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_FILES", 3)
    monkeypatch.setattr(image_files, "cores", lambda: 4)
    files = [f"{place:02d}.png" for place in range(40)]
    for place, file in enumerate(files):
        if place % 7 == 3:
            (tmp_path / file).write_bytes(b"not an image")
        else:
            Image.new("L", (9, 9), 5 * place).save(tmp_path / file)
    images, read, unreadable = image_files.read_images(tmp_path, files, shape=(4, 4), channels=1, fit="stretch")
    good = [place for place in range(40) if place % 7 != 3]
    assert read == [files[place] for place in good]
    np.testing.assert_array_equal(images[:, 0, 0, 0], [5 * place for place in good])
    assert list(unreadable) == [files[place] for place in range(40) if place % 7 == 3]


@given(content=st.binary(max_size=200), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]))
def test_garbage_behind_a_good_beginning_is_one_kind_of_error(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / "garbage"
    Image.new("RGB", (9, 9)).save(path, format=kind)
    path.write_bytes(path.read_bytes()[: 8 + len(content)] + content)
    _, read, unreadable = image_files.read_images(path.parent, [path.name], shape=(4, 4), channels=3, fit="pad")
    assert [*read, *unreadable] == [path.name]
    assert all(reason and str(path) not in reason for reason in unreadable.values())


# Folders


def paint(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


def test_sub_folders_are_classes_however_deep_the_files_lie(tmp_path):
    paint(tmp_path / "dog/a.png", 1)
    paint(tmp_path / "cat/2020/may/b.png", 2)
    paint(tmp_path / "cat/c.png", 3)
    paint(tmp_path / "stray.png", 4)
    paint(tmp_path / ".trash/d.png", 5)
    loaded, card = load_folder(tmp_path, labels="folders", channels=1)
    assert card["files"] == ["cat/2020/may/b.png", "cat/c.png", "dog/a.png", "stray.png"]
    assert loaded.samples[:, 0, 0, 0].tolist() == [2, 3, 1, 4]
    assert loaded.labels.tolist() == [0, 0, 1, -1]
    assert card["class_names"] == ["cat", "dog"]
    assert load_folder(tmp_path)[1]["class_names"] is None


def test_links_are_followed_once(tmp_path):
    paint(tmp_path / "outside/far.png", 9)
    paint(tmp_path / "root/a/near.png", 1)
    (tmp_path / "root/a/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/0_again").symlink_to(tmp_path / "root/a")
    (tmp_path / "root/linked").symlink_to(tmp_path / "outside")
    (tmp_path / "root/single.png").symlink_to(tmp_path / "outside/far.png")
    assert load_folder(tmp_path / "root")[1]["files"] == ["a/near.png", "linked/far.png", "single.png"]


def test_a_link_to_a_folder_around_this_one_is_not_entered(tmp_path):
    paint(tmp_path / "private.png", 9)
    paint(tmp_path / "root/near.png", 1)
    for name, target in {"up": "..", "all": "/", "further": "../.."}.items():
        (tmp_path / "root" / name).symlink_to(target)
    card = load_folder(tmp_path / "root")[1]
    assert card["files"] == ["near.png"]
    expected = [f"{name}: link to a folder that this one lies in" for name in ("all", "further", "up")]
    assert card["unreadable"] == expected


def test_images_that_lie_elsewhere_are_told_of(tmp_path, caplog):
    paint(tmp_path / "elsewhere/far.png", 9)
    for name in ("root/a/near.png", "root/b/other.png"):
        paint(tmp_path / name, 1)
    (tmp_path / "root/a/inside.png").symlink_to("../b/other.png")
    (tmp_path / "root/one.png").symlink_to("../elsewhere/far.png")
    (tmp_path / "root/whole").symlink_to("../elsewhere")
    with caplog.at_level("INFO"):
        load_folder(tmp_path / "root")
    said = f"2 images are links to what lies outside of {tmp_path / 'root'}, the first is one.png"
    assert said in caplog.text
    assert image_files.find_images(tmp_path / "root", ["png"]).outside == ["one.png", "whole/far.png"]


def test_a_pipe_is_no_image_whatever_leads_to_it(tmp_path):
    paint(tmp_path / "near.png", 1)
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / ".hidden.png")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.png").symlink_to("pipe.png")
    card = load_folder(tmp_path)[1]
    assert card["files"] == ["near.png"]
    assert card["unreadable"] == ["link.png: not a file", "pipe.png: not a file"]
    assert card["other_files"] == [".hidden.png", "pipe.txt"]


def test_a_name_of_any_bytes_can_be_printed(tmp_path):
    paint(tmp_path / "plain.png", 1)
    try:
        os.rename(tmp_path / "plain.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    assert load_folder(tmp_path)[1]["files"] == ["caf\\xe9.png"]


def test_many_files_are_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("deep_clustering.data.sources.own._LISTED_FILES", 2)
    for index in range(2):
        paint(tmp_path / f"{index}.png", index)
    card = load_folder(tmp_path)[1]
    assert "files" not in card
    assert card["n_files"] == 2


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({}, {}, r"no images below .*; expected names that end in png, "),
        ({"a.txt": b"x"}, {}, r"got 1 other files \(a.txt\)"),
        ({"a.png": b""}, {}, r"1 of 1 images .* \(a.png: empty file\); nothing is left to cluster"),
    ],
)
def test_a_folder_without_images_is_refused(tmp_path, files, changes, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path, **changes)


def test_a_missing_folder_and_missing_classes_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder of images at .*nowhere"):
        load_folder(tmp_path / "nowhere")
    paint(tmp_path / "a.png", 1)
    with pytest.raises(ValueError, match="labels: folders expects a sub-folder for each class, got none"):
        load_folder(tmp_path, labels="folders")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"size": [8, 8, 8]}, "'size' got"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"fit": "crob"}, "did you mean 'crop'"),
        ({"labels": "files"}, "labels got 'files'"),
        ({"on_error": "stop"}, "on_error got 'stop'"),
        ({"extensions": []}, "extensions must name at least one"),
    ],
)
def test_wrong_options_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path, **changes)


@pytest.mark.parametrize("size", [[8, 6], 8])
def test_the_size_is_a_pair_or_one_side(tmp_path, size):
    paint(tmp_path / "a.png", 1)
    shape = (8, 6) if isinstance(size, list) else (8, 8)
    assert load_folder(tmp_path, size=size)[0].samples.shape == (1, 3, *shape)
