"""The cache: what is read again, what is not, and what a kill costs."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from data.pretrained.small_network import computed, extract
from deep_clustering.data import shards as cache
from deep_clustering.training import progress
from forks import run_forked


def test_a_second_run_reads(images, make_options, forwards):
    first = extract(images, make_options())
    assert computed(forwards) == 23
    forwards.clear()
    # neither batches nor post-processing change what the network gives
    second = extract(images, make_options(batch_size=3, postprocess="standardise"))
    assert not forwards
    np.testing.assert_array_equal(first, second)


def test_what_changes_the_rows_changes_the_key(images, make_options, tmp_path):
    changes = [{}, {"size": 40}, {"layer": "features.3"}, {"precision": "bf16"}, {"weights": "random"}]
    changes.append({"backbone": "mobilenet_v3_small", "weights": "random", "layer": "features"})
    for change in changes:
        extract(images[:2], make_options(**change))
    extract(images[:2], make_options(), sha256="1" * 64)
    extract(images[:2], make_options(), value_range=[0.0, 128.0])
    folders = list((tmp_path / "cache").iterdir())
    assert len(folders) == len(changes) + 2
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    parts = {"samples", "value_range", "backbone", "weights", "size", "layer", "precision"}
    assert set(manifest["key"]) == parts
    assert manifest["n_samples"] == 2


def test_changed_weights_under_the_same_name_are_noticed(network, images, make_options, tmp_path, forwards):
    path = tmp_path / "mine.safetensors"
    for factor in (1.0, 2.0):
        state = network.state_dict()
        safetensors.torch.save_file(state | {"features.0.0.weight": state["features.0.0.weight"] * factor}, path)
        extract(images[:4], make_options(weights=str(path)))
    assert sum(forwards) == 2 * (4 + 1)


def damage_cut(shard):
    shard.write_bytes(shard.read_bytes()[:-7])


def damage_empty(shard):
    shard.write_bytes(b"")


def damage_shape(shard):
    np.save(shard, np.zeros((4, 3), np.float32))


def damage_type(shard):
    np.save(shard, np.load(shard).astype(np.float64))


def damage_objects(shard):
    np.save(shard, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_shape, damage_type, damage_objects, Path.unlink])
def test_a_damaged_shard_is_extracted_again(images, make_options, forwards, monkeypatch, tmp_path, caplog, damage):
    monkeypatch.setattr(cache, "ROWS_PER_SHARD", 8)
    first = extract(images, make_options())
    shards = sorted((tmp_path / "cache").glob("*/*.npy"))
    assert [np.load(shard).shape[0] for shard in shards] == [8, 8, 7]
    damage(shards[1])
    forwards.clear()
    np.testing.assert_array_equal(extract(images, make_options()), first)
    assert computed(forwards) == 8
    assert ("again" in caplog.text) == (damage is not Path.unlink)
    assert str(shards[1]) in caplog.text or damage is Path.unlink


def test_a_damaged_manifest_costs_all_rows(images, make_options, forwards, tmp_path, caplog):
    first = extract(images[:5], make_options())
    (manifest,) = (tmp_path / "cache").glob("*/manifest.json")
    manifest.write_text('{"n_feat')
    forwards.clear()
    np.testing.assert_array_equal(extract(images[:5], make_options()), first)
    assert computed(forwards) == 5
    assert "manifest.json is damaged" in caplog.text


KILLED = """
import os, signal, sys
import numpy as np
from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data import shards as cache
from deep_clustering.data.pretrained import extract_rows
cache.ROWS_PER_SHARD = 8
replace, written = os.replace, []
def killed_before_the_third_shard(source, target):
    written.append(target)
    if len(written) == 4:  # the manifest and two shards are there, the third is a .part
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed_before_the_third_shard
images = np.random.default_rng(0).integers(0, 256, (23, 3, 20, 24), dtype=np.uint8)
options = FeatureOptions(scaling="range", postprocess="none", backbone="mobilenet_v2", weights=sys.argv[1], size=32,
    layer="features", batch_size=8, precision="fp32", device="cpu", cache=sys.argv[2],
    encoder=None, pooling="cls", max_tokens=512, lsa=100, max_terms=20000, max_df=0.3, min_df=2,
    beside_gradients=False, launcher="local", learned={})
extract_rows(images, [0.0, 255.0], "0" * 64, options)
"""


def test_a_killed_run_is_resumed_bit_for_bit(images, weights, make_options, forwards, monkeypatch, tmp_path):
    assert run_forked(KILLED, weights, tmp_path / "cache") == -signal.SIGKILL
    (folder,) = (tmp_path / "cache").iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    assert len(kept) == 2
    assert len(list(folder.glob("*.part"))) == 1
    monkeypatch.setattr(cache, "ROWS_PER_SHARD", 8)
    resumed = extract(images, make_options())
    assert computed(forwards) == 7
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    unbroken = extract(images, make_options(cache=str(tmp_path / "unbroken")))
    np.testing.assert_array_equal(resumed, unbroken)


def test_large_results_are_memory_maps_that_leave_nothing_behind(images, make_options, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "ROWS_PER_SHARD", 8)
    small = extract(images, make_options())
    assert not isinstance(small, np.memmap)
    monkeypatch.setattr(cache, "MEMORY_LIMIT", 1000)
    large = extract(images, make_options())
    assert isinstance(large, np.memmap)
    np.testing.assert_array_equal(large, small)
    (folder,) = (tmp_path / "cache").iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".npy"}
    assert len(list(folder.glob("*.npy"))) == 3


def test_progress_says_how_fast_and_how_long(images, make_options, caplog, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level("INFO")
    extract(images, make_options())
    lines = [record.getMessage() for record in caplog.records if "images/s" in record.getMessage()]
    assert [line.split(",")[0] for line in lines] == [f"features: {n} of 23 images" for n in (8, 16, 23)]
    assert lines[-1].endswith(" 0 s left")
