"""New rows in files: every kind gives the same rows, and what is wrong is said before the first piece."""

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from deep_clustering.inference.prediction import PredictOptions
from deep_clustering.inference.raw_rows import as_samples
from deep_clustering.inference.row_files import check_input, open_rows
from deep_clustering.options import build
from inference.test_raw_rows import COLOUR, CORPUS, GREY, TEXTS, VECTORS

IMAGES = np.random.default_rng(0).integers(0, 17, (7, 1, 2, 3), dtype=np.uint8)
FLAT = pd.DataFrame(IMAGES.reshape(7, 6), columns=[f"pixel {i}" for i in range(6)])

WRITERS = {
    "images.npy": lambda path: np.save(path, IMAGES),
    "flat.npy": lambda path: np.save(path, FLAT.to_numpy()),
    "images.npz": lambda path: np.savez(path, samples=IMAGES),
    "sparse.npz": lambda path: sparse.save_npz(path, sparse.csr_matrix(FLAT.to_numpy())),
    "table.csv": lambda path: FLAT.to_csv(path, index=False),
    "table.tsv": lambda path: FLAT.to_csv(path, index=False, sep="\t"),
    "numbered.csv": lambda path: FLAT.set_axis(range(6), axis=1).to_csv(path, index=False),
    "table.parquet": lambda path: FLAT.to_parquet(path),
    "table.jsonl": lambda path: FLAT.to_json(path, orient="records", lines=True),
}


def joined(pieces, preparation):
    pieces = list(pieces)
    samples = [as_samples(preparation, piece.rows) for piece in pieces]
    ids = [one for piece in pieces for one in piece.ids]
    return ids, samples


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_images(tmp_path, name):
    WRITERS[name](tmp_path / name)
    ids, samples = joined(open_rows(tmp_path / name, GREY, 3), GREY)
    assert [len(piece) for piece in samples] == [3, 3, 1]
    assert ids == list(range(7))
    np.testing.assert_array_equal(np.concatenate(samples), IMAGES)


@pytest.mark.parametrize("name", ["texts.csv", "texts.tsv", "texts.parquet", "texts.jsonl"])
def test_every_kind_of_table_gives_the_same_texts(tmp_path, name):
    texts = pd.DataFrame({"source": range(4), "text": [*CORPUS[:3], "null"]})
    writers = {
        ".csv": lambda path: texts.to_csv(path, index=False),
        ".tsv": lambda path: texts.to_csv(path, index=False, sep="\t"),
        ".parquet": texts.to_parquet,
        ".jsonl": lambda path: texts.to_json(path, orient="records", lines=True),
    }
    writers[(tmp_path / name).suffix](tmp_path / name)
    ids, samples = joined(open_rows(tmp_path / name, TEXTS, 3), TEXTS)
    assert ids == [0, 1, 2, 3]
    expected = as_samples(TEXTS, texts["text"].tolist()).toarray()
    np.testing.assert_array_equal(sparse.vstack(samples).toarray(), expected)


def write_images(folder):
    (folder / "more").mkdir(parents=True)
    for index, image in enumerate(IMAGES):
        Image.fromarray(image[0]).save(folder / ("more" if index % 2 else "") / f"{index}.png")


def test_a_folder_is_read_piece_by_piece(tmp_path, monkeypatch):
    write_images(tmp_path / "folder")
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **rest: opened.append(path) or original(path, **rest))
    pieces = open_rows(tmp_path / "folder", GREY, 4)
    assert not opened
    first = next(pieces)
    assert len(opened) == 4
    second = next(pieces)
    assert [*first.ids, *second.ids] == ["0.png", "2.png", "4.png", "6.png", "more/1.png", "more/3.png", "more/5.png"]
    found = np.concatenate([first.rows, second.rows])
    np.testing.assert_array_equal(found, IMAGES[[0, 2, 4, 6, 1, 3, 5]])
    assert next(pieces, None) is None


def test_damaged_images_are_named_in_their_places(tmp_path, caplog):
    write_images(tmp_path / "folder")
    (tmp_path / "folder" / "2.png").write_bytes(b"no image")
    (tmp_path / "folder" / "5.png").symlink_to("nowhere.png")
    first, second = open_rows(tmp_path / "folder", GREY, 4)
    assert first.ids == ["0.png", "2.png", "4.png", "5.png"]
    assert first.skipped == {1: "not an image, or of a kind that is not read", 3: "link to nothing"}
    np.testing.assert_array_equal(first.rows, IMAGES[[0, 4]])
    assert not second.skipped
    assert "link to nothing" in caplog.text
    assert "2 of 8 images below" in caplog.text
    assert "2.png: not an image" in caplog.text


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (lambda tmp: tmp / "none.npy", GREY, "no file or folder at"),
        (lambda tmp: write(tmp / "rows.txt", b"1 2"), GREY, r"ends in .npy, .npz, .csv"),
        (lambda tmp: write(tmp / "rows.npy", b"1 2"), GREY, "expected a .npy array of numbers"),
        (lambda tmp: write(tmp / "rows.npz", b"1 2"), GREY, "expected a .npz archive"),
        (lambda tmp: write(tmp / "rows.parquet", b"1 2"), GREY, "cannot be read as .parquet"),
        (lambda tmp: write(tmp / "rows.jsonl", b"{"), GREY, "cannot be read as .jsonl"),
        (lambda tmp: write(tmp / "rows.csv", b""), GREY, "cannot be read as .csv"),
        (
            lambda tmp: write(tmp / "rows.csv", b"a,b\xff\n1,2\n"),
            GREY,
            r"cannot be read as .csv: byte 3 is not utf-8 \(invalid start byte\); save it as UTF-8",
        ),
        (
            lambda tmp: write(tmp / "rows.jsonl", b'{"a": "\xff"}'),
            GREY,
            "cannot be read as .jsonl: byte 7 is not utf-8",
        ),
        (lambda tmp: write(tmp / "rows.csv", b"a,b,c,d,e,f\n"), GREY, "no rows; expected at least one"),
        (lambda tmp: write(tmp / "rows.csv", b"a,b\n1,2\n"), GREY, r"got shape \(1, 2\); expected images"),
        (lambda tmp: write(tmp / "rows.csv", b"0,0,5,9,1,1\n0,0,5,9,1,1\n"), GREY, "the first line holds numbers"),
        (lambda tmp: write(tmp / "rows.csv", b"a,b,c,d,e,f\n1,2,3,4,5,6,7\n"), GREY, "more cells than the header"),
        (lambda tmp: write(tmp / "rows.csv", b"body\noil\n"), TEXTS, r"no column 'text' \(known: body\)"),
        (lambda tmp: tmp, VECTORS, "no file below .* ends in .npy.*; expected rows of 3 numbers"),
        (lambda tmp: tmp, COLOUR, "no images below"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(tmp_path, make, given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_rows(make(tmp_path), given, 3)


def test_an_image_is_refused_by_a_model_of_other_rows(tmp_path):
    write_images(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"0\.png is an image; expected rows of 3 numbers"):
        list(open_rows(tmp_path / "folder/0.png", VECTORS, 3))


def test_a_folder_in_which_nothing_can_be_read_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 1 images below .*\(a.png: not an image.*nothing is left"):
        list(open_rows(tmp_path, GREY, 3))


def test_the_columns_of_the_training_are_taken_whatever_stands_beside_them(tmp_path):
    preparation = replace(VECTORS, reading={**VECTORS.reading, "columns": ["b", "a", "c"]})
    table = pd.DataFrame({"id": [7, 8], "a": [1.0, 2], "note": ["x", "y"], "b": [3.0, 4], "c": [5.0, 6]})
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.set_axis(["id", "A", "note", "B", "C"], axis=1).to_csv(tmp_path / "other.csv", index=False)
    pieces = list(open_rows(tmp_path / "rows.csv", preparation, 3))
    np.testing.assert_array_equal(pieces[0].rows, [[3, 1, 5], [4, 2, 6]])
    with pytest.raises(ValueError, match=r"other\.csv: no column 'b'"):
        list(open_rows(tmp_path / "other.csv", preparation, 3))


def test_columns_of_a_table_of_the_same_width_are_not_mixed_up(tmp_path, caplog):
    preparation = replace(VECTORS, reading={**VECTORS.reading, "columns": ["b", "a", "c"]})
    table = pd.DataFrame({"c": [5.0, 6], "b": [3.0, 4], "A": [1.0, 2]})
    table.to_csv(tmp_path / "some.csv", index=False)
    with pytest.raises(ValueError, match=r"some\.csv: no column 'a'"):
        list(open_rows(tmp_path / "some.csv", preparation, 3))
    table.set_axis(["x", "y", "z"], axis=1).to_csv(tmp_path / "none.csv", index=False)
    (piece,) = open_rows(tmp_path / "none.csv", preparation, 3)
    np.testing.assert_array_equal(piece.rows, [[5, 3, 1], [6, 4, 2]])
    assert "no column is called 'b', 'a', 'c': they are taken in their order" in caplog.text


def test_empty_cells_are_said_by_their_line_as_in_training(tmp_path):
    preparation = replace(VECTORS, reading={**VECTORS.reading, "columns": ["b", "a", "c"]})
    (tmp_path / "rows.csv").write_text("a,b,c,note\n1,2,3,\n4,,6,x\n")
    message = r"1 of 2 rows have .* 'b' \(1\); .* of row 2 \(line 3 of rows\.csv\); .*df\.dropna\(subset=\['b'\]\)"
    with pytest.raises(ValueError, match=message):
        list(open_rows(tmp_path / "rows.csv", preparation, 3))


@pytest.mark.parametrize("n_rows", [1, 2, 3, 9])
def test_lines_of_json_may_lack_the_text_wherever_they_stand(tmp_path, n_rows):
    lines = ['{"n": 1}', '{"n": 2, "text": null}', '{"text": "oil and gas"}', '{"n": 3}', '{"n": 4}', '{"text": "gas"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    pieces = list(open_rows(tmp_path / "rows.jsonl", TEXTS, n_rows))
    assert [text for piece in pieces for text in piece.rows] == ["oil and gas", "gas"]
    assert [piece.ids[place] for piece in pieces for place in piece.skipped] == [0, 1, 3, 4]
    (tmp_path / "none.jsonl").write_text('{"n": 1}\n{"m": 1}\n')
    with pytest.raises(ValueError, match="no column 'text'"):
        list(open_rows(tmp_path / "none.jsonl", TEXTS, n_rows))


@pytest.mark.parametrize("shape", [(4, 7), (0, 6), (6,), (2, 1, 3, 3)])
def test_arrays_of_another_shape_are_refused_at_once(tmp_path, shape):
    np.save(tmp_path / "rows.npy", np.zeros(shape))
    with pytest.raises(ValueError, match=r"^predict: .*/rows\.npy: rows: got (shape|none)"):
        open_rows(tmp_path / "rows.npy", GREY, 3)


@pytest.mark.parametrize("name", ["rows.npy", "rows.csv", "rows.txt", "image.png"])
def test_a_pipe_is_refused_unread(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: expected a folder or a file, got a pipe, socket or device"):
        check_input(tmp_path / name)


def test_options_name_the_command_once_before_a_file_of_another_kind(tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    names = [field.name for field in fields(PredictOptions)]
    block = {**dict.fromkeys(names), "model": "m", "input": str(tmp_path / "rows.xlsx"), "chunk_rows": 9}
    with pytest.raises(ValueError, match=r"^predict: [^:]*/rows\.xlsx: expected a folder of images, an image, or"):
        build(PredictOptions, block, "predict")


def test_a_device_is_refused_unread():
    with pytest.raises(ValueError, match="/dev/zero: expected a folder or a file, got a pipe"):
        check_input(Path("/dev/zero"))
