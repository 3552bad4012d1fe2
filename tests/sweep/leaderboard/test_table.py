"""The leaderboard: lines, paired differences, the choice without labels, its files and its place in a README."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from scipy import stats

from deep_clustering.cli import cli
from deep_clustering.reporting.leaderboard import write_leaderboard
from deep_clustering.sweep.leaderboard import make_leaderboard, read_runs, replace_in_readme, to_markdown
from deep_clustering.sweep.leaderboard.comparison import paired_differences
from deep_clustering.sweep.leaderboard.runs import write_runs
from deep_clustering.sweep.leaderboard.table import choose, notes

ROOT = Path(__file__).parents[3]
DCAN = [0.70, 0.85, 0.90, 0.60]
KMEANS = [0.50, 0.60, 0.80, 0.55]


def runs_of(method: str, acc: list[float], *, env="digits", variant="", seeds=None, **columns) -> pd.DataFrame:
    seeds = list(range(len(acc))) if seeds is None else seeds
    return pd.DataFrame(
        {"env": env, "method": method, "variant": variant, "seed": seeds, "status": "finished", "acc": acc, **columns}
    ).astype({"seed": "Int64"})


@pytest.fixture
def runs() -> pd.DataFrame:
    return pd.concat(
        [
            runs_of("dcan", DCAN, pair_log_likelihood=[1.6, 1.8, 1.7, 1.5], cpu_seconds=[10.0, 12.0, 14.0, 16.0]),
            runs_of("kmeans", KMEANS, cpu_seconds=[1.0, 1.0, 1.0, 1.0]),
            runs_of("ward", [0.65], seeds=[None]),
        ],
        ignore_index=True,
    )


def line_of(table: pd.DataFrame, method: str, variant: str = "") -> pd.Series:
    (index,) = table.index[(table["method"] == method) & (table["variant"] == variant)]
    return table.loc[index]


def test_a_line_has_mean_deviation_and_number_of_runs(runs):
    table = make_leaderboard(runs, None)
    dcan = line_of(table, "dcan")
    assert (dcan["n_runs"], dcan["n_failed"]) == (4, 0)
    assert dcan["acc_mean"] == pytest.approx(0.7625)
    assert dcan["acc_std"] == pytest.approx(np.std(DCAN, ddof=1))
    assert np.isnan(dcan["acc_low"])
    assert dcan["acc_values"] == "0.7 0.85 0.9 0.6"  # four seeds are too few for an interval
    assert dcan["cpu_seconds_mean"] == pytest.approx(13)
    assert table["method"].tolist() == ["dcan", "ward", "kmeans"]  # by mean acc


def test_differences_pair_equal_seeds(runs):
    further = [runs_of("dcan", [0.80], seeds=[4]), runs_of("kmeans", [0.70], seeds=[4])]
    dcan = line_of(make_leaderboard(pd.concat([runs, *further], ignore_index=True), None), "dcan")
    differences = np.array([0.20, 0.25, 0.10, 0.05, 0.10])  # by hand
    assert dcan["acc_pairs"] == 5
    assert dcan["acc_difference"] == pytest.approx(0.14)
    wanted = stats.ttest_rel([*DCAN, 0.80], [*KMEANS, 0.70]).confidence_interval(0.95)
    assert (dcan["acc_difference_low"], dcan["acc_difference_high"]) == pytest.approx(tuple(wanted))
    assert (dcan["acc_difference_p"], dcan["acc_difference_test"]) == (0.0625, "sign-flip")  # all are positive
    assert differences.mean() == pytest.approx(dcan["acc_difference"])


def test_four_pairs_are_shown_and_not_generalised(runs):
    table = make_leaderboard(runs, None)
    dcan = line_of(table, "dcan")
    assert dcan["acc_difference"] == pytest.approx(0.15)
    assert np.isnan([dcan["acc_difference_low"], dcan["acc_difference_high"], dcan["acc_difference_p"]]).all()
    assert "+0.150 (+0.200 +0.250 +0.100 +0.050)" in to_markdown(table)
    assert "+0.150 (+0.200, +0.250, +0.100, +0.050)" in write_leaderboard(table=table, runs=runs, baseline="kmeans")


def test_other_seeds_are_compared_without_pairs():
    values, baseline = [0.9, 0.8, 0.85, 0.95, 0.7, 0.9], [0.5, 0.6, 0.55, 0.5, 0.58]
    runs = pd.concat([runs_of("dcan", values), runs_of("kmeans", baseline, seeds=range(10, 15))], ignore_index=True)
    table = make_leaderboard(runs, None)
    dcan = line_of(table, "dcan")
    wanted = stats.ttest_ind(values, baseline, equal_var=False)
    ends = wanted.confidence_interval(0.95)
    assert (dcan["acc_difference_test"], dcan["acc_pairs"]) == ("Welch", 0)
    assert (dcan["acc_difference_low"], dcan["acc_difference_high"]) == pytest.approx((ends.low, ends.high))
    assert dcan["acc_difference_p"] == pytest.approx(wanted.pvalue)
    assert "(Welch)" in to_markdown(table)


def test_few_common_seeds_of_many_make_no_pairs():
    values, baseline = np.linspace(0.7, 0.9, 8), np.linspace(0.4, 0.5, 8)
    runs = pd.concat([runs_of("dcan", [*values]), runs_of("kmeans", [*baseline], seeds=range(6, 14))])
    dcan = line_of(make_leaderboard(runs.reset_index(drop=True), None), "dcan")
    assert dcan["acc_difference"] == pytest.approx(0.8 - 0.45)  # of the means, not of the two pairs
    assert dcan["acc_difference_test"] == "Welch"


def test_pairing_takes_seeds_by_number_not_by_place():
    values, baseline = runs_of("dcan", [0.9, 0.8], seeds=[3, 1]), runs_of("kmeans", [0.1, 0.3, 0.5], seeds=[1, 2, 3])
    assert sorted(paired_differences(values, baseline, "acc")) == pytest.approx([0.4, 0.7])


def test_a_run_without_a_partner_or_a_value_makes_no_pair():
    values, baseline = runs_of("dcan", [0.9, np.nan, 0.7]), runs_of("kmeans", [0.5, 0.5], seeds=[0, 1])
    assert paired_differences(values, baseline, "acc") == pytest.approx([0.4])


def test_a_constant_is_the_partner_of_every_seed(runs):
    dcan = line_of(make_leaderboard(runs, "ward"), "dcan")
    assert dcan["acc_pairs"] == 4
    assert dcan["acc_difference"] == pytest.approx(0.7625 - 0.65)


def test_a_method_without_a_seed_has_an_interval_of_no_width(runs):
    ward = line_of(make_leaderboard(runs, None), "ward")
    assert (ward["acc_mean"], ward["acc_std"], ward["acc_low"], ward["acc_high"]) == (0.65, 0, 0.65, 0.65)


def test_the_baseline_has_the_same_options_where_it_has_any():
    runs = pd.concat(
        [
            runs_of("dcan", [0.9, 0.9], variant="noise=0.5, n_clusters=8"),
            runs_of("dcan", [0.8, 0.8], variant="noise=0.5, n_clusters=10"),
            runs_of("kmeans", [0.5, 0.5], variant="n_clusters=8"),
            runs_of("kmeans", [0.2, 0.2], variant="n_clusters=10"),
            runs_of("gmm", [0.4, 0.4], variant="n_init=1"),
        ],
        ignore_index=True,
    )
    table = make_leaderboard(runs, None)
    assert line_of(table, "dcan", "noise=0.5, n_clusters=8")["acc_difference"] == pytest.approx(0.4)
    assert line_of(table, "dcan", "noise=0.5, n_clusters=10")["acc_difference"] == pytest.approx(0.6)
    assert np.isnan(line_of(table, "gmm", "n_init=1")["acc_difference"])  # either could be meant


def test_one_variant_can_be_the_baseline_of_the_others():
    variants = {"loss=euclidean": [0.7, 0.6], "loss=adversarial": [0.8, 0.9], "": [0.5, 0.5]}
    runs = pd.concat([runs_of("dcan", acc, variant=name) for name, acc in variants.items()], ignore_index=True)
    table = make_leaderboard(runs, "dcan@loss=euclidean")
    assert line_of(table, "dcan", "loss=adversarial")["acc_difference"] == pytest.approx(0.2)
    assert line_of(table, "dcan")["acc_difference"] == pytest.approx(-0.15)
    assert np.isnan(line_of(table, "dcan", "loss=euclidean")["acc_difference"])
    with pytest.raises(ValueError, match=r"no runs of 'dcan@loss=euclid' .did you mean 'dcan@loss=euclidean'"):
        make_leaderboard(runs, "dcan@loss=euclid")


def test_environments_are_kept_apart(runs):
    other = pd.concat([runs_of("dcan", [0.3], env="mnist"), runs_of("kmeans", [0.5], env="mnist")])
    table = make_leaderboard(pd.concat([runs, other], ignore_index=True), None)
    mnist = table[table["env"] == "mnist"]
    assert mnist["method"].tolist() == ["kmeans", "dcan"]
    assert line_of(mnist, "dcan")["acc_difference"] == pytest.approx(-0.2)


def test_failed_runs_are_counted_and_nothing_else(runs):
    failed = runs_of("dcan", [np.nan], seeds=[9]).assign(status="failed", reason="ValueError: too hot")
    dcan = line_of(make_leaderboard(pd.concat([runs, failed], ignore_index=True), None), "dcan")
    assert (dcan["n_runs"], dcan["n_failed"]) == (4, 1)
    assert dcan["acc_mean"] == pytest.approx(0.7625)


def test_a_sweep_in_which_all_failed_has_a_leaderboard_too():
    failed = runs_of("dcan", [np.nan], seeds=[0]).assign(status="failed", reason="ValueError: <too hot>")
    table = make_leaderboard(failed, None)
    assert "(+1 failed)" in to_markdown(table)
    assert "&lt;too hot&gt;" in write_leaderboard(table=table, runs=failed, baseline=None)


def test_the_choice_without_labels_follows_what_the_method_declares(runs):
    dcan = choose(runs[runs["method"] == "dcan"])  # the greatest pair_log_likelihood is that of seed 1
    assert (dcan["label_free_score"], dcan["chosen_seed"], dcan["chosen_acc"]) == ("pair_log_likelihood", 1, 0.85)
    assert dcan["best_acc"] == 0.90
    assert dcan["oracle_gap"] == pytest.approx(0.05)
    mixture = choose(runs_of("neural_mixture", [0.4, 0.9, 0.6], log_likelihood=[1.0, 2.0, 3.0]))
    assert (mixture["label_free_score"], mixture["chosen_seed"], mixture["chosen_acc"]) == ("log_likelihood", 2, 0.6)


def test_runs_of_before_are_chosen_by_the_score_of_before():
    former = runs_of("dcan", [0.7, 0.9, 0.8], view_information=[1.0, 1.5, 2.0])
    chosen = choose(former)
    assert (chosen["label_free_score"], chosen["chosen_seed"]) == ("view_information", 2)
    newer = choose(former.assign(pair_log_likelihood=[1.0, 2.0, 1.5]))
    assert (newer["label_free_score"], newer["chosen_seed"]) == ("pair_log_likelihood", 1)


def test_there_is_no_choice_without_a_score_labels_or_alternatives(runs):
    assert choose(runs[runs["method"] == "kmeans"]) == {}
    assert choose(runs_of("dcan", [0.9], pair_log_likelihood=[0.1])) == {}
    assert choose(runs_of("dcan", [0.9, 0.8], pair_log_likelihood=[0.1, 0.2]).drop(columns="acc")) == {}


def test_an_unknown_baseline_is_answered_with_the_closest(runs):
    with pytest.raises(ValueError, match=r"no runs of 'kmean' \(did you mean 'kmeans'"):
        make_leaderboard(runs, "kmean")


def test_a_table_of_runs_survives_its_file(runs, tmp_path):
    write_runs(runs, tmp_path / "runs.csv")
    again = make_leaderboard(read_runs(tmp_path / "runs.csv"), None)
    pd.testing.assert_frame_equal(again, make_leaderboard(runs, None), rtol=1e-5, check_dtype=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got a file that is none"),
        ("method,acc\nkmeans,1\n", "lacks the columns seed"),
        ("method,seed,acc\n", "has no lines"),
        ("method,seed,acc\nkmeans,0,good\n", "expected numbers in the column 'acc'"),
    ],
)
def test_a_file_that_is_no_table_of_runs_is_refused(tmp_path, text, message):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_runs(tmp_path / "runs.csv")


def test_a_missing_file_is_an_error_without_a_traceback(tmp_path):
    result = CliRunner().invoke(cli, ["leaderboard", str(tmp_path / "runs.csv")])
    assert result.exit_code == 1
    assert "no such file or folder" in result.output


def test_the_markdown_table_shows_what_is_known(runs):
    lines = to_markdown(make_leaderboard(runs, None)).splitlines()
    assert lines[0].startswith("| method | ACC | ACC of each run | ACC over the baseline |")
    assert "NMI" not in lines[0]
    assert lines[2].startswith("| dcan | 0.762 ± 0.138 |") or lines[2].startswith("| dcan | 0.763 ± 0.138 |")
    assert lines[3].startswith("| ward | 0.650 | constant |")


def test_ten_equal_runs_are_named_as_such_and_have_no_spread(runs):
    more = [runs_of("tsne_gmm", [0.95] * 10), runs_of("gmm", [0.70, 0.71, 0.72, 0.73, 0.74])]
    table = make_leaderboard(pd.concat([runs, *more], ignore_index=True), "tsne_gmm")
    text = to_markdown(table)
    assert "| tsne_gmm | 0.950 | 10 equal runs |" in text
    assert "95 % interval of ACC, or each run" in text
    half = 2.776445 * np.sqrt(0.00025 / 5)  # the 97.5 % point of t with 4 degrees of freedom, and their variance
    assert f"| gmm | 0.720 ± 0.016 | [{0.72 - half:.3f}, {0.72 + half:.3f}] | -0.230 [" in text
    page = write_leaderboard(table=table, runs=pd.concat([runs, *more], ignore_index=True), baseline="tsne_gmm")
    assert "10 equal runs" in page
    assert f"{0.72 - half:.3f} to {0.72 + half:.3f}" in page


def test_the_page_escapes_what_comes_from_the_data(runs):
    runs = runs.assign(variant="<script>attack")
    page = write_leaderboard(table=make_leaderboard(runs, None), runs=runs, baseline="kmeans")
    assert "<script>attack" not in page
    assert "&lt;script&gt;attack" in page
    assert not re.search(r"(src|href)=\"https?:", page)


def test_runs_that_do_not_compare_are_named(runs):
    assert notes(runs.assign(data_sha256="a", threads=1)) == []
    mixed = runs.assign(data_sha256=["a", "b"] + ["a"] * (len(runs) - 2))
    assert notes(mixed) == ["digits: the runs are not all of the same rows: compare them with care."]
    assert "not all of the same rows" in write_leaderboard(
        table=make_leaderboard(mixed, None), runs=mixed, baseline=None, notes=notes(mixed)
    )


def test_a_readme_gets_the_table_between_its_markers_and_nothing_else_changes(tmp_path):
    readme, end = tmp_path / "README.md", "<!-- /leaderboard -->\n"
    readme.write_text(f"a\n<!-- leaderboard:x -->\nold\n{end}b\n<!-- leaderboard:y -->\nY\n{end}")
    assert replace_in_readme(readme, "x", "new\\1\n")
    assert readme.read_text() == f"a\n<!-- leaderboard:x -->\nnew\\1\n{end}b\n<!-- leaderboard:y -->\nY\n{end}"
    assert not replace_in_readme(readme, "x", "new\\1\n")


def test_a_readme_without_the_markers_is_refused(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- leaderboard:digits -->\n<!-- /leaderboard -->\n")
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        replace_in_readme(readme, "digit", "")


EXPERIMENTS = sorted((ROOT / "docs/experiments").glob("*.md"))

# Every table between markers, and what its runs are compared with, as the page's own command says.
PUBLISHED = {
    ("docs/results/index.md", "digits"): None,
    ("docs/methods/index.md", "compared_digits"): None,
    ("docs/methods/index.md", "compared_mnist"): None,
    ("docs/methods/index.md", "compared_reuters"): None,
    ("docs/methods/index.md", "compared_lite2"): None,
    ("docs/experiments/nmm-em.md", "digits_readings"): "neural_mixture@objective=consistency",
    ("docs/experiments/nmm-em.md", "cifar10_small"): None,
    ("docs/experiments/nmm-em.md", "two_stage_digits"): None,
    ("docs/experiments/nmm-em.md", "mnist_readings"): "neural_mixture@objective=consistency",
    ("docs/experiments/sweeps.md", "text_and_features"): None,
    ("docs/experiments/features-and-texts.md", "features_and_texts"): None,
    ("docs/experiments/sweeps.md", "mnist"): None,
    ("docs/experiments/sweeps.md", "mnist_earlier"): None,
    ("docs/experiments/sweeps.md", "fashion_mnist"): "kmeans",
    ("docs/experiments/dcan.md", "dcan_losses"): "dcan@loss=euclidean",
    ("docs/experiments/dcan.md", "dcan_losses_mnist"): "dcan@loss=euclidean",
}


PAGES = ["docs/results/index.md", "docs/methods/index.md", *(f"docs/experiments/{path.name}" for path in EXPERIMENTS)]


@pytest.mark.parametrize("page", PAGES)
def test_published_tables_are_those_of_the_published_runs(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = dict(re.findall(r"<!-- leaderboard:([\w.-]+) -->\n(.*?)<!-- /leaderboard -->", text, re.DOTALL))
    assert set(shown) == {name for other, name in PUBLISHED if other == page}
    for name, table in shown.items():
        runs = read_runs(ROOT / f"docs/results/{name}.csv")
        assert table == to_markdown(make_leaderboard(runs, PUBLISHED[page, name])), name


def test_a_table_of_a_million_columns_is_refused_by_its_first_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pd, "read_csv", None)
    path = tmp_path / "runs.csv"
    path.write_text("method,seed" + ",acc" * 1_000_000 + "\n")
    with pytest.raises(ValueError, match=rf"{path}: expected a table of runs \(\.csv\), got one of 1000002 columns"):
        read_runs(path)


def test_what_a_stranger_calls_his_methods_is_neither_image_nor_link_nor_heading(tmp_path):
    name = "[x](https://evil.example)"
    lines = [f"{env},![x](//evil.example),{name},{seed},0.5" for env in ("a", '"b\n# c"') for seed in (0, 1)]
    (tmp_path / "runs.csv").write_text("\n".join(["env,method,variant,seed,acc", *lines]))
    shown = to_markdown(make_leaderboard(read_runs(tmp_path / "runs.csv"), None))
    html = MarkdownIt("commonmark").enable("table").render(shown)
    assert re.findall(r"<(a|img|h1)\b", html) == []
    assert re.findall(r"<h3>(.*)</h3>", html) == ["a", r"b\n# c"]
    assert html.count(f"<td>{name}</td>") == 2


@pytest.mark.parametrize("special", ["pipe", "/dev/zero"])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path, special):
    path = tmp_path / special
    if special == "pipe":
        os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path}: expected a table of runs .*, got a pipe, socket or device"):
        read_runs(path)
