"""The words of `kedro sweep`: grids, seeds and options, and the cells they make."""

from dataclasses import replace

import pytest

from deep_clustering.methods import METHODS
from deep_clustering.pipelines import two_stage
from deep_clustering.pipelines.parameters import parameter_names, split_params
from deep_clustering.sweep.folder import open_folder, read_json
from deep_clustering.sweep.grid import Cell, Grid, nest
from deep_clustering.sweep.parsing import (
    parse_grid,
    parse_names,
    parse_params,
    parse_pipelines,
    parse_seeds,
    split_outside,
)

PIPELINES = ("dcan", "kmeans")


def make_grid(**changes) -> Grid:
    values = {"envs": ("digits",), "pipelines": PIPELINES, "seeds": (0, 1), "options": {}, "params": {}}
    return Grid(**{**values, **changes})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a, b", ["a", "b"]),
        ("[64],[128,128]", ["[64]", "[128,128]"]),
        ("{a: [1,2], b: 3},4", ["{a: [1,2], b: 3}", "4"]),
        ("x='a,b',2", ["x='a,b'", "2"]),
        ('"a,b","c"', ['"a,b"', '"c"']),
        ("it's,2", ["it's", "2"]),
    ],
)
def test_commas_inside_brackets_and_quotes_do_not_split(text, parts):
    assert split_outside(text) == parts


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (3,)), ("0-3", (0, 1, 2, 3)), ("0-1,7", (0, 1, 7)), ("5,2", (5, 2)), ("4-4", (4,))]
)
def test_seeds_are_numbers_and_ranges_with_both_ends(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one seed"),
        ("9-0", "runs backwards; write 0-9"),
        ("0-3,2", "given twice: 2"),
        ("one", "whole numbers and ranges such as 0-4,7, got 'one'"),
        ("-1", "got '-1'"),
        ("4294967296", "at most 4294967295"),
    ],
)
def test_wrong_seeds_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_seeds(text)


def test_values_of_a_grid_are_yaml():
    grid = parse_grid(
        ["dcan.noise=0.25,1,1e-3", "dcan.discriminator_hidden=[64],[128,128]", "dcan.whitening=true,false"], PIPELINES
    )
    assert grid == {
        "dcan.noise": (0.25, 1, 0.001),
        "dcan.discriminator_hidden": ([64], [128, 128]),
        "dcan.whitening": (True, False),
    }


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["dcan.noise"], "expected name=value"),
        (["dcan.noise="], "expected name=value"),
        (["=1"], "expected name=value"),
        (["dcan.noise=1,,2"], "without an empty value, got 'dcan.noise=1,,2'"),
        (["dcan.noise=1,1"], "given twice: 1"),
        (["dcan.noise=1", "dcan.noise=2"], "'dcan.noise' is given twice"),
        (["gmm.n_init=1"], "option of 'gmm', which is not among --pipelines"),
        (["seed=1,2"], "use --seeds"),
        (["dcan.seed=1,2"], "use --seeds"),
        (["output_folder=a,b"], "use --folder"),
        (["trunk_folder=a,b"], "use --folder"),
        (["dcan.noise=[1"], "no value of YAML"),
    ],
)
def test_wrong_grids_are_refused(items, message):
    with pytest.raises(ValueError, match=message):
        parse_grid(items, PIPELINES)


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("ingestion.source.samples=a,b.npy,ingestion.n_rows=5", ("a,b.npy", 5)),
        ("ingestion.source.samples='a,b=c.npy',ingestion.n_rows=5", ("a,b=c.npy", 5)),
        ("ingestion.source.samples=[32, 32],ingestion.n_rows=1e3", ([32, 32], 1000.0)),
    ],
)
def test_commas_in_shared_options_are_those_of_a_run(text, params):
    """`--params` of `kedro run` takes a path with a comma, and so does that of a sweep."""
    assert tuple(parse_params(text, PIPELINES, {}).values()) == params
    assert [item.partition("=")[0] for item in split_params(text)] == list(parse_params(text, PIPELINES, {}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b", "expected name=value"),
        ("a=[1", "does not end"),
        ("n_clusters=3,n_clusters=4", "given twice"),
        ("dcan.noise=1", "and in --grid"),
    ],
)
def test_wrong_params_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_params(text, PIPELINES, {"dcan.noise": (1, 2)})


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(ValueError, match=r"--pipelines: unknown name 'dcn' \(did you mean 'dcan'"):
        parse_names("--pipelines", "dcn", PIPELINES)
    with pytest.raises(ValueError, match="at least one name"):
        parse_names("--pipelines", "", PIPELINES)


def test_all_pipelines_are_all_methods():
    assert parse_pipelines(" all ") == tuple(METHODS)
    assert parse_pipelines("temi,dcan_literal") == ("temi", "dcan_literal")
    with pytest.raises(ValueError, match="--pipelines: unknown name 'all'"):
        parse_pipelines("all,dcan")


def test_nesting_refuses_an_option_as_a_whole_and_in_part():
    assert nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    for options in ({"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}):
        with pytest.raises(ValueError, match="set one of them"):
            nest(options)


def test_a_pipelines_option_counts_for_it_alone_and_any_other_for_all():
    grid = make_grid(options={"dcan.noise": (0.5, 1), "n_clusters": (8, 10, 12)})
    assert len(grid.points("dcan")) == 2 * 3
    assert grid.points("kmeans") == [{"n_clusters": 8}, {"n_clusters": 10}, {"n_clusters": 12}]


def test_cells_are_the_product_and_a_pipeline_without_a_seed_comes_once():
    grid = make_grid(envs=("digits", "mnist"), options={"dcan.noise": (0.5, 1)})
    cells = grid.cells({"kmeans"})
    expected = {
        *((env, "dcan", seed, noise) for env in ("digits", "mnist") for seed in (0, 1) for noise in (0.5, 1)),
        *((env, "kmeans", None, None) for env in ("digits", "mnist")),
    }
    assert {(c.env, c.pipeline, c.seed, c.point.get("dcan.noise")) for c in cells} == expected
    assert len(cells) == len(expected)


def test_a_cell_says_what_it_is_in_its_name_and_its_parameters():
    point = {"dcan.discriminator_hidden": [64, 32], "ingestion.n_rows": 200}
    cell = Cell(env="digits", pipeline="dcan", seed=3, point=point, params={"dcan.epochs": 2})
    assert cell.id == "dcan-discriminator_hidden=64x32-ingestion.n_rows=200-seed3"
    assert cell.variant == "discriminator_hidden=[64,32], ingestion.n_rows=200"
    assert cell.runtime_params == {
        "dcan": {"discriminator_hidden": [64, 32], "epochs": 2},
        "ingestion": {"n_rows": 200},
        "seed": 3,
    }
    assert cell.data_params == {"ingestion.n_rows": 200}
    assert cell.data_name == "prepared-ingestion.n_rows=200"


def test_cells_on_a_trunk_share_it_if_they_agree_on_seed_rows_and_all_that_it_reads():
    shared = {"n_clusters": 8, "kmeans_on_trunk.n_init": 3, "evaluation.silhouette_samples": 100}
    own = {"trunk.epochs": 2, "trunk_neighbours.k": 5, "ingestion.n_rows": 200}
    cell = Cell(env="digits", pipeline="kmeans_on_trunk", seed=3, point=shared | own, params={"device": "cpu"})
    assert cell.trunk_name == "trunk-trunk.epochs=2-trunk_neighbours.k=5-ingestion.n_rows=200-seed3"
    assert cell.trunk_params == own | {"device": "cpu", "seed": 3}
    assert replace(cell, pipeline="self_labelled", point=own).trunk_name == cell.trunk_name
    assert replace(cell, point=shared).trunk_name == "trunk-seed3"
    assert replace(cell, pipeline="kmeans").trunk_name is None


def test_whatever_the_fit_of_a_trunk_takes_counts_for_it():
    taken = parameter_names(two_stage.create_pipeline())
    options = dict.fromkeys(f"{name}.option" for name in taken)
    cell = Cell(env="digits", pipeline="kmeans_on_trunk", seed=0, point={}, params=options)
    assert cell.trunk_params == options | {"seed": 0}


def test_values_that_make_no_file_name_keep_cells_apart():
    names = [
        Cell(env="e", pipeline="dcan", seed=0, point={"features.weights": value}, params={}).id
        for value in ("a/b", "a:b")
    ]
    assert len(set(names)) == 2
    assert not any(set(name) & set("/:") for name in names)


def test_cells_that_differ_only_by_a_credential_are_refused():
    grid = make_grid(options={"features.weights": ("https://me:one@h/w", "https://me:two@h/w")})
    with pytest.raises(ValueError, match="cannot be told apart"):
        grid.cells(())


def test_the_name_of_a_sweep_depends_on_its_grid_and_shows_no_values():
    grid = make_grid(params={"features.weights": "https://me:hunter2@host/w"})
    assert grid.name() == make_grid(params=dict(grid.params)).name()
    assert grid.name() != make_grid().name()
    assert grid.name().startswith("digits-dcan-kmeans-")
    assert "hunter2" not in str(grid.plain())


def test_a_sweep_may_grow(tmp_path):
    open_folder(tmp_path, make_grid(options={"dcan.noise": (1,)}))
    grown = make_grid(
        envs=("digits", "mnist"),
        pipelines=("dcan", "kmeans", "gmm"),
        seeds=(0, 1, 2),
        options={"dcan.noise": (1, 2), "gmm.n_init": (1, 5)},
    )
    open_folder(tmp_path, grown)
    assert read_json(tmp_path / "sweep.json")["grid"] == grown.plain()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0,)}, "its seeds 1 are not asked for"),
        ({"pipelines": ("dcan",)}, "its pipelines kmeans are not asked for"),
        ({"envs": ("mnist",)}, "its envs digits are not asked for"),
        ({"options": {"dcan.noise": (2,)}}, "its grid has dcan.noise=1"),
        ({"options": {}}, "its grid has dcan.noise=1"),
        ({"options": {"dcan.noise": (1,), "n_clusters": (8,)}}, "its grid has no n_clusters"),
        ({"params": {"dcan.epochs": 3}}, "its params set dcan.epochs to nothing, not 3"),
    ],
)
def test_another_sweep_is_refused_by_naming_the_difference(tmp_path, changes, message):
    options = {"dcan.noise": (1,)}
    open_folder(tmp_path, make_grid(options=options))
    before = (tmp_path / "sweep.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        open_folder(tmp_path, make_grid(**{"options": options, **changes}))
    assert (tmp_path / "sweep.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds no sweep"):
        open_folder(tmp_path, make_grid())


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "sweep.json").write_text('{"grid":')
    with pytest.raises(ValueError, match=r"sweep\.json: expected JSON, got a damaged file"):
        open_folder(tmp_path, make_grid())
