"""Who becomes champion, in a real store."""

import logging

import pytest

from deep_clustering.inference.mlflow_store import TrackingError
from deep_clustering.inference.stored import read_predictor
from deep_clustering.runs.tracking.registry import Training, options_sha256, register
from deep_clustering.runs.tracking.store import start_run
from tracked_project import client_of, make_project

NAME = "digits-dcan"
ROWS = {
    "scaling": "range",
    "postprocess": "none",
    "backbone": None,
    "weights": "DEFAULT",
    "size": 224,
    "layer": "avgpool",
    "batch_size": 64,
    "precision": "auto",
    "device": "cpu",
    "cache": "",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_project(tmp_path / "project")


@pytest.fixture
def add(root):
    """Function (score, data, rows, options) that registers a model and returns (version, champion)."""
    client = client_of(root)
    run = start_run(root, "registry", "some", {})
    experiment = client.get_experiment_by_name("registry").experiment_id

    def add_one(score, data="a" * 64, direction="max", rows=ROWS, weights=None, **options):
        logged = client.create_logged_model(experiment, name="dcan_model", source_run_id=run.run_id)
        training = Training(
            method="dcan",
            options=options,
            features=rows,
            weights_sha256=weights,
            data_sha256=data,
            score=None if score is None else ("quality", direction, score),
        )
        versions = {register(client, NAME, logged.model_id, run.run_id, training) for _ in range(2)}
        (version,) = versions  # a second call, after one that was killed, makes no second version
        return int(version), int(client.get_registered_model(NAME).aliases["champion"])

    return add_one


def test_the_best_score_on_the_same_data_is_champion(add):
    assert add(0.5) == (1, 1)
    assert add(0.4) == (2, 1)
    assert add(0.5) == (3, 1)
    assert add(0.6) == (4, 4)


def test_less_is_better_where_the_method_says_so(add):
    assert [add(score, direction="min")[1] for score in (0.5, 0.6, 0.4)] == [1, 1, 3]


def test_without_scores_the_newest_is_champion(add):
    assert [add(None)[1] for _ in range(3)] == [1, 2, 3]


def test_scores_on_other_data_are_not_compared(add, caplog):
    caplog.set_level(logging.INFO)
    assert add(0.5)[1] == 1
    assert add(0.3, data="b" * 64)[1] == 2
    assert "digits-dcan version 1 was fitted to other samples: scores do not compare, the newest takes" in caplog.text


@pytest.mark.parametrize("other", [{"n_clusters": 5}, {"views": {"kind": "noise"}}])
def test_scores_of_other_clusters_or_views_are_not_compared(add, caplog, other):
    caplog.set_level(logging.INFO)
    same = {"n_clusters": 4, "views": {"kind": "affine"}}
    assert add(0.5, **same)[1] == 1
    assert add(0.3, **same | other)[1] == 2
    assert "digits-dcan version 1 has other rows, clusters or views" in caplog.text


def test_a_shortened_first_run_does_not_stay_champion(add):
    same = {"n_clusters": 4, "views": {"kind": "affine", "degrees": 10}, "seed": 0}
    assert add(0.7, epochs=10, restarts=1, **same)[1] == 1
    assert add(0.9, epochs=40, restarts=2, encoder={"kind": "mlp"}, **same)[1] == 2
    assert add(0.8, epochs=80, restarts=2, **same)[1] == 2


def test_clusters_that_were_changed_have_no_score_and_displace_none_that_has(add):
    assert add(0.5)[1] == 1
    assert add(None)[1] == 1


def training_on(rows, weights):
    return Training(
        method="dcan",
        options={},
        features=rows,
        weights_sha256=weights,
        data_sha256="a" * 64,
        score=("quality", "max", 1),
    )


SEEN = ROWS | {"backbone": "resnet50", "precision": "fp32"}


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (ROWS, {"device": "cuda"}),
        (ROWS, {"cache": "elsewhere", "batch_size": 8}),
        (ROWS, {"weights": "random", "size": 32, "layer": "layer3", "precision": "bf16"}),
        (SEEN, {"device": "cuda", "cache": "elsewhere", "batch_size": 8}),
        (SEEN, {"weights": "/mnt/resnet50.safetensors"}),
        (SEEN, {"scaling": "none"}),
        (SEEN, {"beside_gradients": False}),  # what versions without gradients have on file stays comparable
        (ROWS | {"backbone": "hog"}, {"size": 32, "layer": "layer3", "precision": "bf16", "scaling": "none"}),
        (ROWS | {"backbone": "patches"}, {"learned": {"side": 32}}),
    ],
)
def test_where_and_in_what_pieces_rows_are_made_does_not_count(rows, changes):
    fingerprints = {options_sha256(training_on(options, "w" * 64)) for options in (rows, rows | changes)}
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (ROWS, {"scaling": "none"}),
        (ROWS, {"postprocess": "centre_l2"}),
        (ROWS, {"backbone": "resnet50"}),
        (SEEN, {"size": 32}),
        (SEEN, {"layer": "layer3"}),
        (SEEN, {"precision": "bf16"}),
        (SEEN, {"beside_gradients": True}),
        (ROWS, {"backbone": "hog"}),
        (ROWS | {"backbone": "learned", "learned": {"side": 32}}, {"learned": {"side": 48}}),
    ],
)
def test_what_the_rows_depend_on_counts(rows, changes):
    assert options_sha256(training_on(rows, "w" * 64)) != options_sha256(training_on(rows | changes, "w" * 64))


ENCODER = {"encoder": None, "pooling": "cls", "max_tokens": 512, "lsa": 100, "max_terms": 20000, "max_df": 0.3}
READ = ROWS | ENCODER | {"encoder": "onnx:here/bge"}


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (ROWS, ENCODER),  # what versions without encoders have on file stays comparable
        (ROWS | ENCODER, {"lsa": 50}),
        (READ, {"encoder": "onnx:there/bge"}),
        (READ, {"scaling": "none"}),
    ],
)
def test_options_of_encoders_count_only_with_one(rows, changes):
    assert options_sha256(training_on(rows, "w" * 64)) == options_sha256(training_on(rows | changes, "w" * 64))


@pytest.mark.parametrize(
    "changes", [{"encoder": "lsa"}, {"encoder": ["onnx:here/bge", "lsa"]}, {"encoder": None}, {"pooling": "mean"}]
)
def test_what_texts_are_read_by_counts(changes):
    assert options_sha256(training_on(READ, "w" * 64)) != options_sha256(training_on(READ | changes, "w" * 64))


def test_the_weights_of_a_backbone_count(add, caplog):
    assert add(0.5, rows=SEEN, weights="w" * 64)[1] == 1
    assert add(0.4, rows=SEEN, weights="v" * 64)[1] == 2
    assert add(0.6, rows=SEEN | {"device": "cuda"}, weights="v" * 64)[1] == 3
    assert add(0.5, rows=SEEN, weights="v" * 64)[1] == 3


def test_a_champion_without_score_gives_way_to_one_with_a_score(add, caplog):
    caplog.set_level(logging.INFO)
    assert add(None)[1] == 1
    assert add(0.9)[1] == 2
    assert "version 1 has no quality to compare with" in caplog.text


def test_an_alias_that_was_taken_away_is_given_anew(root, add):
    add(0.5)
    client_of(root).delete_registered_model_alias(NAME, "champion")
    assert add(0.1) == (2, 2)


def test_a_version_knows_its_run_model_data_and_score(root, add):
    add(0.25)
    version = client_of(root).get_model_version(NAME, "1")
    assert client_of(root).get_run(version.run_id).info.run_name == "some"
    assert version.source.startswith((root / "mlartifacts").as_uri())
    tags = {"data.sha256.samples": "a" * 64, "score.name": "quality", "score.value": "0.25"}
    assert tags.items() <= version.tags.items()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/digits-dcn@champion", r"no registered model 'digits-dcn' \(did you mean 'digits-dcan'\?\)"),
        ("models:/digits-dcan@champoin", r"has no alias 'champoin' \(did you mean 'champion'\?\)"),
        ("models:/digits-dcan/7", r"has no version 7 \(known: 1\)"),
        ("runs:/nothing/dcan_model", "Run with id=nothing not found"),
        ("models:/digits-dcan", "expected models:/<name>@<alias> or <name>/<version>"),
    ],
)
def test_models_that_are_not_there_are_named(root, add, model, message):
    add(0.5)
    with pytest.raises(TrackingError, match=message):
        read_predictor(root, model)


def test_files_that_are_no_predictors_are_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"model.safetensors: expected a predictor, got a file of another kind"):
        read_predictor(tmp_path, str(tmp_path / "model.safetensors"))
    with pytest.raises(ValueError, match=r"no predictor at .*; expected models:/<data set>-<method>@champion"):
        read_predictor(tmp_path, str(tmp_path / "digits-dcan"))
