"""What goes wrong with data, files and disks: one clear error before any training, and what was saved stays whole."""

import errno
import os
import re
import shutil
import textwrap
from importlib import import_module

import numpy as np
import pytest

from command_line import checksums, command, error_of, kedro_run, params
from deep_clustering.datasets import ModelDataset
from drawing import spare_drawing
from pipelines.small_project import versions

ROWS = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(project, *options):
    """Run, expect one error, no model, and everything that was saved before as it was; returns the message."""
    before = checksums(project / "data")
    found = error_of(kedro_run(project, *options))
    after = checksums(project / "data")
    assert before.items() <= after.items()
    assert not [name for name in set(after) - set(before) if name.startswith(("06_models", "07_", "08_"))]
    assert not list(project.rglob("*.part"))
    return found


def use_arrays(project, samples, labels=None):
    """Make the user's own arrays the source, as a user would: in conf/local."""
    files = {"samples": samples, "labels": labels}
    for name, array in files.items():
        if isinstance(array, np.ndarray):
            np.save(project / f"{name}.npy", array)
    configuration = f"""\
        ingestion:
          source:
            kind: arrays
            name: mine
            samples: {project}/samples.npy
            labels: {"null" if labels is None else f"{project}/labels.npy"}
            key: null
            layout: auto
            value_range: null
        """
    (project / "conf/local").mkdir(exist_ok=True)
    (project / "conf/local/parameters.yml").write_text(textwrap.dedent(configuration))


def with_value(value):
    rows = ROWS.copy()
    rows[7, 2] = value
    return rows


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (with_value(np.nan), r"ingestion: .* must be finite, got NaN or infinity first in row 7, column 2 "),
        (with_value(-np.inf), r"ingestion: .* must be finite, got NaN or infinity first in row 7, column 2 "),
        (
            with_value(np.nan).astype(np.float64),
            r"ingestion: .* must be finite, got NaN or infinity first in row 7, column 2 ",
        ),
        (ROWS.astype(complex), r"ingestion: samples must be .*, got complex128 \(60, 5\)$"),
        (ROWS.astype(str), r"ingestion: samples must be .*, got <U\d+ \(60, 5\)$"),
        (ROWS.astype(object), r"ingestion: .*samples\.npy: expected a \.npy array of numbers, got .*pickle"),
        (ROWS[:, 0], r"ingestion: .* must have shape .*, got \(60,\); save array\[:, None\]"),
        (np.zeros((), dtype=np.float32), r"ingestion: .* must have shape .*, got \(\)$"),
        (ROWS.reshape(4, 3, 5, 5, 1), r"ingestion: .* must have shape .*, got \(4, 3, 5, 5, 1\)$"),
        (ROWS[:0], r"ingestion: .* must not be empty, got shape \(0, 5\)$"),
        (np.ones((60, 5), dtype=np.float32), r"features: .* got the range 1\.0\.\.1\.0 \(constant features\)$"),
        (np.ones((60, 1, 8, 8), dtype=np.uint8), r"kmeans: all 60 rows are equal \(constant features\)"),
        (ROWS[:2], r"kmeans: n_clusters must be at most the number of rows, got 3 for 2 rows$"),
    ],
)
def test_samples_that_cannot_be_clustered_are_refused(project, samples, message):
    use_arrays(project, samples)
    found = refuse(project, "--pipelines=kmeans", params(ingestion__n_rows=0, n_clusters=3))
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(61, dtype=int), r"ingestion: expected one label for each of the 60 rows, got 61$"),
        (np.zeros(59, dtype=int), r"ingestion: expected one label for each of the 60 rows, got 59$"),
        (np.full(60, 0.5), r"ingestion: labels must be whole numbers, got 0\.5 first in row 0$"),
        (np.zeros((60, 2), dtype=int), r"ingestion: labels must be integers .*, got int64 \(60, 2\)$"),
        (np.full(60, -2), r"ingestion: labels must be at least 0, or -1 for unknown, got -2$"),
    ],
)
def test_labels_that_do_not_belong_to_the_samples_are_refused(project, labels, message):
    use_arrays(project, ROWS, labels)
    found = refuse(project, "--pipelines=kmeans", params(ingestion__n_rows=0, n_clusters=3))
    assert re.search(message, found), found


@pytest.mark.parametrize("content", [None, b"", b"<html>not found</html>", b"half"])
def test_a_file_of_the_user_that_is_missing_or_damaged_is_named(project, content):
    use_arrays(project, ROWS)
    file = project / "samples.npy"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:700] if content == b"half" else content)
    found = refuse(project, "--pipelines=kmeans", params(ingestion__n_rows=0, n_clusters=3))
    assert re.search(rf"ingestion: .*{re.escape(str(file))}.*expected a \.npy array", found), found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_clusters": 1}, "kmeans: n_clusters must be at least 2, got 1$"),
        ({"n_clusters": 201}, "kmeans: n_clusters must be at most the number of rows, got 201 for 200 rows$"),
        ({"ingestion__n_rows": 1798}, "ingestion: n_rows must be at most the 1797 rows there are, got 1798$"),
    ],
)
def test_numbers_that_do_not_fit_the_data_are_refused(project, changes, message):
    found = refuse(project, "--pipelines=kmeans", params(**changes))
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_clusters": 201}, "kmeans: n_clusters must be at most the number of rows, got 201 for 200 rows$"),
        ({"neighbours__k": 200}, "neighbours: k must be below the number of rows 200, got 200$"),
    ],
)
def test_rows_that_are_too_few_are_refused_before_features_are_made_of_them(project, changes, message):
    """Features of a network may take hours."""
    before = checksums(project / "data")
    found = error_of(kedro_run(project, "--pipelines=kmeans", params(ingestion__n_rows=200, **changes)))
    assert re.search(message, found), found
    assert not [name for name in set(checksums(project / "data")) - set(before) if name.startswith("04_")]


@pytest.mark.parametrize("method", ["dcan", "neural_mixture"])
def test_vectors_do_not_go_through_a_network_for_images(project, method):
    use_arrays(project, ROWS)
    found = refuse(project, f"--pipelines={method}", params(ingestion__n_rows=0, n_clusters=3))
    assert re.search(r"images of shape \(channels, height, width\), got rows of \(5,\)", found), found


@pytest.mark.parametrize("method", ["dcan", "neural_mixture"])
def test_fewer_rows_than_one_batch_are_enough(project, method):
    small = {"ingestion__n_rows": 20, "n_clusters": 3, "dcan__batch_size": 256, "neural_mixture__epochs": 2}
    result = kedro_run(project, f"--pipelines={method}", f"--to-nodes=evaluation.score_{method}", params(**small))
    assert result.exit_code == 0, result.output
    saved = [path for path in versions(project, "assignments.npy") if method in path.parts]
    assert [np.load(path).shape for path in saved] == [(20,)]


@pytest.mark.parametrize(
    ("name", "file", "node", "kept"),
    [
        ("features", "features.npy", "kmeans.fit", 0.5),
        ("features", "features.npy", "kmeans.fit", 0),
        ("kmeans.model", "model.safetensors", "kmeans.assign", 0.5),
        ("kmeans_representation", "representation.npz", "evaluation.score_kmeans", 0.5),
        ("data_card", "data_card.json", "evaluation.score_kmeans", 0.5),
    ],
)
def test_a_damaged_version_is_named_and_another_can_be_chosen(project, name, file, node, kept):
    good = versions(project, file)[0]
    newer = good.parents[1] / "2100-01-01T00.00.00.000Z" / file
    newer.parent.mkdir()
    content = good.read_bytes()
    newer.write_bytes(content[: int(kept * len(content))])
    found = refuse(project, "--pipelines=kmeans", f"--nodes={node}", params())
    assert re.search(rf"^{name}: .*{re.escape(str(newer))}: expected .*, got .*--load-versions", found), found
    chosen = f"--load-versions={name}:{good.parent.name}"
    result = kedro_run(project, "--pipelines=kmeans", f"--nodes={node}", chosen, params())
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("name", "file", "node"),
    [
        ("features", "features.npy", "kmeans.fit"),
        ("samples", "samples.npy", "data.extract_features"),
        ("kmeans_assignments", "assignments.npy", "evaluation.score_kmeans"),
        ("kmeans_representation", "representation.npz", "evaluation.score_kmeans"),
    ],
)
def test_a_version_in_which_a_bit_has_changed_is_named(project, name, file, node):
    (path,) = versions(project, file)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = refuse(project, "--pipelines=kmeans", f"--nodes={node}", params())
    assert re.search(rf"^{name}: .*{re.escape(str(path))}: expected .*(has changed|CRC).*--load-versions", found), found


def test_what_a_killed_run_left_is_not_taken_for_a_version(project):
    folder = versions(project, "features.npy")[0].parents[1]
    (folder / "2100-01-01T00.00.00.000Z").mkdir()
    (folder / "2100-01-01T00.00.00.000Z/.0123.part").write_bytes(b"half")
    result = kedro_run(project, "--pipelines=kmeans", "--nodes=kmeans.fit", params())
    assert result.exit_code == 0, result.output


def test_a_run_from_the_middle_without_the_data_before_it_is_refused(project):
    shutil.rmtree(project / "data/04_feature")
    found = refuse(project, "--pipelines=kmeans", "--nodes=kmeans.fit", params())
    assert re.search(r"'features' has no version in .*features\.npy", found), found


@pytest.mark.parametrize("place", ["data", "data/06_models", "data/08_reporting/digits/kmeans/scores.json"])
def test_a_file_where_a_folder_is_needed_is_named_before_anything_runs(project, place):
    blocked = project / place
    shutil.rmtree(blocked)
    blocked.write_text("in the way")
    before = checksums(project)
    found = error_of(kedro_run(project, "--pipelines=kmeans", params()))
    assert re.fullmatch(rf"outputs go to .*, but {re.escape(str(blocked))} is a file; expected a folder", found), found
    assert checksums(project) == before


def test_a_folder_without_the_right_to_write_is_named_before_anything_runs(project, monkeypatch):
    models = project / "data/06_models/digits/kmeans/model.safetensors"
    is_allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != models and is_allowed(path, mode))
    before = checksums(project)
    found = error_of(kedro_run(project, "--pipelines=kmeans", params()))
    assert re.fullmatch(rf"outputs go to .*, but {re.escape(str(models))} is not writable; .*", found), found
    assert checksums(project) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="rights do not bind this user")
def test_a_read_only_folder_is_named_before_anything_runs(project):
    models = project / "data/06_models/digits/kmeans/model.safetensors"
    models.chmod(0o500)
    found = refuse(project, "--pipelines=kmeans", params())
    assert re.fullmatch(rf"outputs go to .*, but {re.escape(str(models))} is not writable; .*", found), found


@pytest.mark.parametrize(
    ("method", "function", "term", "value"),
    [
        ("dcan", "game:encoder_loss", "loss_encoder", np.nan),
        ("dcan", "game:discriminator_loss", "loss_discriminator", np.inf),
        ("neural_mixture", "mixture_training:m_step_loss", "loss", np.nan),
    ],
)
def test_a_loss_that_is_not_finite_stops_with_method_epoch_and_term(
    project, monkeypatch, method, function, term, value
):
    place, _, name = function.partition(":")
    module = import_module(f"deep_clustering.methods.{place}")
    loss = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *terms: loss(*terms) + value)
    # without checkpoints, the first of which holds the partition of the start
    found = refuse(project, f"--pipelines={method}", f"--nodes={method}.fit", params(checkpoints__every=0))
    assert re.search(rf"{method}: '{term}' became {value} in epoch 1; training stopped", found), found


def break_sync(monkeypatch):
    def full(descriptor):
        raise NO_SPACE

    monkeypatch.setattr(os, "fsync", full)


def break_write(monkeypatch):
    def half(self, data, file):
        file.write(b"half")
        raise NO_SPACE

    monkeypatch.setattr(ModelDataset, "_encode", half)


@pytest.mark.parametrize("break_disk", [break_sync, break_write])
def test_a_full_disk_leaves_no_half_written_file(project, break_disk):
    before = checksums(project / "data")
    with pytest.MonkeyPatch.context() as monkeypatch:
        break_disk(monkeypatch)
        found = refuse(project, "--pipelines=kmeans", "--nodes=kmeans.fit", params())
    assert re.search(r"kmeans\.model: .*model\.safetensors[\s\S]*No space left on device", found), found
    assert checksums(project / "data") == before
    result = kedro_run(project, "--pipelines=kmeans", "--nodes=kmeans.fit", params())
    assert result.exit_code == 0, result.output
    assert len(versions(project, "model.safetensors")) == 2


def test_a_disk_that_fills_up_leaves_no_half_written_table(project):
    pytest.importorskip("resource")
    before = checksums(project / "data")
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))  # no file may grow beyond so many bytes\n"
        "from deep_clustering.__main__ import main\n"
        f"main(['--pipelines=kmeans', '--nodes=kmeans.tabulate', '{params()}'])\n"
    )
    result = command(project, "-c", code)
    assert result.returncode == 1
    assert "kmeans_assignments_csv: " in result.stderr
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert checksums(project / "data") == before


def test_a_second_run_adds_a_version_of_each_file_and_touches_none(project, monkeypatch):
    spare_drawing(monkeypatch)
    before = checksums(project / "data")
    assert kedro_run(project, "--pipelines=kmeans", params(seed=1)).exit_code == 0
    after = checksums(project / "data")
    assert before.items() < after.items()
    first, second = (
        {name.split("/")[-1] + str(name.split("/")[:-2]) for name in names}
        for names in (before, set(after) - set(before))
    )
    assert first == second
    assert len({name.split("/")[-2] for name in set(after) - set(before)}) == 1
