"""Prediction in bulk: shards together are the one table, and none is made twice or taken for what it is not."""

import json
import os
import signal
from dataclasses import replace
from itertools import count as numbers
from multiprocessing import Pipe, Process, active_children
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from deep_clustering.cli import cli
from deep_clustering.data.preparation import prepare
from deep_clustering.inference import bulk, bulk_shards, bulk_workers
from deep_clustering.inference.bulk import BulkOptions, predict_in_bulk
from deep_clustering.inference.prediction import check_first_row, open_model, predict_rows
from deep_clustering.inference.predictor import PredictorOptions, make_predictor, to_bytes
from deep_clustering.inference.row_files import open_unread
from deep_clustering.methods import make_method, save_method

RAW = load_digits().images[:200, None].astype(np.uint8)
SPLIT = np.full(200, 3, dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor(tiny_options, parameters):
    card = {"name": "digits", "value_range": [0.0, 16.0], "sha256": {"samples": "0" * 64}}
    rows, preparation = prepare(RAW, SPLIT, card, {"terms": [], "idf": None}, parameters["features"])
    model = save_method(make_method(tiny_options("kmeans")).fit(rows))
    return make_predictor(
        model, preparation, {}, None, SPLIT, PredictorOptions(outlier_quantile=0.1, max_rows=0, data_set="d")
    )


@pytest.fixture
def options(predictor, parameters, tmp_path):
    """Of a prediction of all digits, sixteen rows at a time."""
    (tmp_path / "predictor.safetensors").write_bytes(to_bytes(predictor))
    np.save(tmp_path / "rows.npy", RAW)
    model, rows = str(tmp_path / "predictor.safetensors"), str(tmp_path / "rows.npy")
    return {**parameters["predict"], "model": model, "input": rows, "chunk_rows": 16}


def into(folder, **other):
    return BulkOptions(**{"folder": folder, "shard_rows": 40, "workers": 1, **other})


def shards(folder):
    return sorted(folder.glob("*.parquet"))


def test_shards_together_are_the_one_table(options, tmp_path):
    manifest = predict_in_bulk(options, into(tmp_path / "out"))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), predict_rows(options))
    # Three pieces of sixteen rows are the first to have forty; 200 = 4 x 48 + 8.
    assert [shard["rows"] for shard in manifest["shards"]] == [48, 48, 48, 48, 8]
    assert (manifest["rows"], manifest["skipped"], manifest["complete"]) == (200, 0, True)
    assert json.loads((tmp_path / "out/_manifest.json").read_text()) == manifest


def stop_after(monkeypatch, n_shards):
    """End the process, as far as Python can, once some shards are written."""
    write = bulk_shards._write
    left = iter(range(n_shards))

    def written(*given):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return write(*given)

    monkeypatch.setattr(bulk_shards, "_write", written)


def test_a_killed_one_goes_on_with_what_is_missing(options, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            predict_in_bulk(options, into(tmp_path / "out"))
    kept = {path: path.stat().st_mtime_ns for path in shards(tmp_path / "out")}
    assert len(kept) == 2
    assert not json.loads((tmp_path / "out/_manifest.json").read_text())["complete"]
    predict_in_bulk(options, into(tmp_path / "out"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    predict_in_bulk(options, into(tmp_path / "unbroken"))
    resumed, unbroken = shards(tmp_path / "out"), shards(tmp_path / "unbroken")
    assert [path.read_bytes() for path in resumed] == [path.read_bytes() for path in unbroken]


def other_model(options, predictor):
    other = replace(predictor.preparation, value_range=(0.0, 17.0))
    Path(options["model"]).write_bytes(to_bytes(predictor._replace(preparation=other)))


def other_rows(options, predictor):
    np.save(options["input"], RAW[::-1])


def other_pieces(options, predictor):
    options["chunk_rows"] = 20


@pytest.mark.parametrize(
    ("change", "message"),
    [(other_model, "model_sha256: "), (other_rows, "input: "), (other_pieces, "chunk_rows: 16, now 20")],
)
def test_a_folder_of_something_else_is_refused(options, predictor, tmp_path, change, message):
    predict_in_bulk(options, into(tmp_path / "out"))
    before = [path.read_bytes() for path in shards(tmp_path / "out")]
    change(options, predictor)
    with pytest.raises(ValueError, match=f"holds shards of something else .*{message}.*name another folder"):
        predict_in_bulk(options, into(tmp_path / "out"))
    assert [path.read_bytes() for path in shards(tmp_path / "out")] == before


def test_a_strangers_folder_is_refused(options, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").touch()
    with pytest.raises(ValueError, match="has something else in it; expected a new or an empty folder"):
        predict_in_bulk(options, into(tmp_path / "out"))


def cut(content):
    return content[:-100]


def flip(content):
    """Change a byte of the first page, which the end of the file says nothing of."""
    return content[:60] + bytes([content[60] ^ 1]) + content[61:]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b""])
def test_a_damaged_shard_is_made_again(options, tmp_path, damage, caplog):
    predict_in_bulk(options, into(tmp_path / "out"))
    shard = shards(tmp_path / "out")[1]
    whole = shard.read_bytes()
    shard.write_bytes(damage(whole))
    predict_in_bulk(options, into(tmp_path / "out"))
    assert shard.read_bytes() == whole
    assert f"{shard} is cut short or damaged" in caplog.text


def test_a_shard_of_another_input_is_made_again(options, tmp_path, caplog):
    predict_in_bulk(options, into(tmp_path / "out"))
    first, second = (path.read_bytes() for path in shards(tmp_path / "out")[:2])
    shards(tmp_path / "out")[1].write_bytes(first)  # whole, but of other rows
    predict_in_bulk(options, into(tmp_path / "out"))
    assert shards(tmp_path / "out")[1].read_bytes() == second
    assert "is cut short or damaged (it is of another input or model)" in caplog.text


def test_hidden_files_and_folders_are_no_part_of_the_input(options, tmp_path):
    write_images(tmp_path / "folder")
    (tmp_path / "folder/07.png").unlink()
    options |= {"input": str(tmp_path / "folder"), "chunk_rows": 5}
    before = predict_in_bulk(options, into(tmp_path / "out"))
    for name in (".DS_Store", ".cache/rows.bin"):
        (tmp_path / "folder" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(b"of somebody's desktop")
    assert predict_in_bulk(options, into(tmp_path / "out")) == before


def test_an_input_of_which_nothing_can_be_read_is_refused(options, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "folder" / name).write_bytes(b"no image")
    options |= {"input": str(tmp_path / "folder"), "on_error": "skip"}
    with pytest.raises(ValueError, match=r"folder: none of 2 rows can be read; see .*out$"):
        predict_in_bulk(options, into(tmp_path / "out"))
    assert not json.loads((tmp_path / "out/_manifest.json").read_text())["complete"]


def test_a_first_row_that_cannot_be_read_says_nothing_of_the_model(options, tmp_path):
    write_images(tmp_path / "folder")
    (tmp_path / "folder/00.png").write_bytes(b"no image")
    check_first_row(options | {"input": str(tmp_path / "folder"), "on_error": "skip"})
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        check_first_row(options | {"input": str(tmp_path / "none")})


def test_a_piece_of_which_nothing_can_be_read_has_no_clusters_and_the_others_have(options, tmp_path):
    write_images(tmp_path / "folder")
    for name in ("05", "06", "08", "09"):
        (tmp_path / f"folder/{name}.png").write_bytes(b"no image")
    table = predict_rows(options | {"input": str(tmp_path / "folder"), "on_error": "skip", "chunk_rows": 5})
    assert table["skipped"].notna().tolist() == [5 <= row < 10 for row in range(20)]
    assert (table["cluster"][5:10] == -1).all()
    assert table["probability"][5:10].isna().all()
    expected = predict_rows(options)["cluster"][:20]
    assert table["cluster"][:5].tolist() == expected[:5].tolist()
    assert table["cluster"][10:].tolist() == expected[10:].tolist()


def test_an_input_that_changes_meanwhile_is_refused(options, tmp_path, monkeypatch):
    def assign(*given):
        os.utime(options["input"], (0, 0))
        return assign_shards(*given)

    assign_shards = bulk.assign_shards
    monkeypatch.setattr(bulk, "assign_shards", assign)
    with pytest.raises(ValueError, match=r"rows.npy changed while it was read"):
        predict_in_bulk(options, into(tmp_path / "out"))
    assert not json.loads((tmp_path / "out/_manifest.json").read_text())["complete"]


def write_images(folder):
    folder.mkdir()
    for index in range(20):
        Image.fromarray(RAW[index, 0]).save(folder / f"{index:02d}.png")
    (folder / "07.png").write_bytes(b"no image")


def test_images_that_cannot_be_read_are_told_or_refused(options, tmp_path):
    write_images(tmp_path / "folder")
    options |= {"input": str(tmp_path / "folder"), "chunk_rows": 5}
    with pytest.raises(ValueError, match=r"from row 5 on: 07.png: not an image.*; repair or remove it"):
        predict_in_bulk({**options, "on_error": "refuse"}, into(tmp_path / "refused", shard_rows=5))
    manifest = predict_in_bulk(options, into(tmp_path / "out", shard_rows=5))
    assert [shard["skipped"] for shard in manifest["shards"]] == [0, 1, 0, 0]
    table = pd.read_parquet(tmp_path / "out").set_index("id")
    assert table["cluster"]["07.png"] == -1
    assert table["skipped"]["07.png"].startswith("not an image")
    assert table["skipped"].notna().sum() == 1


def test_images_of_other_shards_are_not_decoded(options, predictor, tmp_path, monkeypatch):
    write_images(tmp_path / "folder")
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **rest: opened.append(path.name) or original(path, **rest))
    pieces = list(open_unread(tmp_path / "folder", predictor.preparation, 6))
    assert [piece.n_rows for piece in pieces] == [6, 6, 6, 2]
    assert not opened
    pieces[3].read()
    assert sorted(opened) == ["18.png", "19.png"]


def task_of(options, tmp_path):
    chosen, predictor, _ = open_model(options)
    return bulk_shards.Task(chosen, predictor, tmp_path / "out", 40, "key")


def test_workers_share_shards_out_by_claims(options, predictor, tmp_path):
    """Who claims every second number makes those, and counts only their rows."""
    counted = []
    made = bulk_shards.assign_shards(task_of(options, tmp_path), counted.append, numbers(1, 2).__next__)
    assert [(shard.number, shard.rows) for shard in made] == [(1, 48), (3, 48)]
    assert sum(counted) == 96


def test_another_process_makes_the_same_shards(options, tmp_path):
    counted = []
    made = bulk_workers.assign_together(task_of(options, tmp_path), 1, counted.append)
    assert [shard.rows for shard in made] == [48, 48, 48, 48, 8]
    assert sum(counted) == 200
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), predict_rows(options))


def kill_a_worker(monkeypatch):
    """Several workers, of which one is killed as soon as there is a shard, which comes after its rows are counted."""

    def assign(task, n_workers, count):
        def killing(n_rows):
            if shards(task.folder):
                os.kill(active_children()[0].pid, signal.SIGKILL)
            count(n_rows)

        return assign_together(task, n_workers, killing)

    assign_together = bulk.assign_together
    monkeypatch.setattr(bulk, "assign_together", assign)
    monkeypatch.setattr(bulk_workers, "_POLL_SECONDS", 0.01)


def test_two_workers_go_on_behind_a_kill_and_make_what_one_makes(options, tmp_path, monkeypatch):
    """Two hundred shards: neither worker is done when the first rows are."""
    np.save(options["input"], np.tile(RAW, (16, 1, 1, 1)))
    two = into(tmp_path / "two", shard_rows=16, workers=2)
    with monkeypatch.context() as patched:
        kill_a_worker(patched)
        with pytest.raises(ChildProcessError, match=r"worker \d+ ended with exit code -9; the same command goes on"):
            predict_in_bulk(options, two)
    kept = {path: path.stat().st_mtime_ns for path in shards(two.folder)}
    assert 0 < len(kept) < 200
    assert not json.loads((two.folder / "_manifest.json").read_text())["complete"]
    words = [options["model"], options["input"], f"--to={two.folder}", "--workers=2", "--shard-rows=16"]
    result = CliRunner().invoke(cli, ["predict", *words, "--params=predict.chunk_rows=16"])
    assert result.output.splitlines()[-1] == f"3200 rows, 0 of them skipped, in 200 files in {two.folder}"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    one = predict_in_bulk(options, into(tmp_path / "one", shard_rows=16))
    assert json.loads((two.folder / "_manifest.json").read_text()) == one
    pd.testing.assert_frame_equal(pd.read_parquet(two.folder), pd.read_parquet(tmp_path / "one"))


def test_a_killed_worker_is_named():
    reader, writer = Pipe(duplex=False)
    worker = Process(target=os.kill, args=(0, 0))
    writer.close()
    worker.start()
    with pytest.raises(ChildProcessError, match=r"worker \d+ ended with exit code 0; the same command goes on"):
        bulk_workers._answer(reader, worker)


def test_the_command_says_what_it_made(options, tmp_path):
    words = [options["model"], options["input"], "--to", str(tmp_path / "out"), "--params=predict.chunk_rows=100"]
    result = CliRunner().invoke(cli, ["predict", *words])
    assert result.output.splitlines()[-1] == f"200 rows, 0 of them skipped, in 1 files in {tmp_path / 'out'}"
    refused = CliRunner().invoke(cli, ["predict", *words, "--params=column=body"])
    assert "unknown option 'column'; expected predict.<option>=value" in refused.output
