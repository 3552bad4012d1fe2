"""The first page: its table, its figures, its links, its Python, and what is said to be cited."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

import deep_clustering
from deep_clustering.sweep.leaderboard import make_leaderboard, read_runs, to_brief_markdown, to_markdown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs/results/index.md").read_text(encoding="utf-8")
TABLE = re.compile(r"<!-- leaderboard:[\w.-]+ -->\n(.*?)<!-- /leaderboard -->", re.DOTALL)
BASELINES = ("kmeans", "gmm", "ward", "tsne_gmm")
# A score as prose has it: three digits behind a point that none precedes.
SCORE = re.compile(r"(?<![\d.\w])0?\.\d{3}(?!\d)(?: \[\.\d{3}, \.\d{3}\])?")


def scores(name: str, method: str, env: str | None = None, variant: str | None = None) -> np.ndarray:
    """ACC of each run of a method, in the order of the seeds."""
    runs = pd.read_csv(ROOT / f"docs/results/{name}.csv")
    chosen = runs[(runs["method"] == method) & ((runs["env"] == env) if env else True)]
    chosen = chosen[chosen["variant"] == variant] if variant else chosen
    assert len(chosen), f"{name}: no runs of {method} on {env}"
    return chosen.sort_values("seed")["acc"].to_numpy()


def short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def each(values: np.ndarray) -> list[str]:
    return [short(value) for value in values]


def mean(values: np.ndarray) -> list[str]:
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return [f"{short(values.mean())} [{short(low)}, {short(high)}]"]


# What a line of a table begins with, and the scores behind it that have runs on file.
FIGURES = {
    "MNIST, all 70,000": each(scores("mnist", "neural_mixture")) + each(scores("mnist", "dcan")),
    "MNIST, fitted on 60,000": each(scores("mnist_test", "neural_mixture")),
    "Fashion-MNIST, its 70,000": [
        *each(scores("fashion_mnist", "neural_mixture")),
        *each(scores("fashion_mnist", "dcan")),
        *each(scores("fashion_mnist", "tsne_gmm")),
    ],
    "MNIST, its 10,000 test images": [
        *mean(scores("compared_mnist", "neural_mixture", variant="restarts=3, start.kind=in_turn")),
        *mean(scores("compared_mnist", "dcan", variant="restarts=2, start.kind=in_turn")),
        *mean(scores("compared_mnist", "tsne_gmm")),
    ],
    **{
        head: [
            one
            for method in ("neural_mixture", "dcan", "kmeans")
            for one in mean(scores("features_and_texts", method, env))
        ]
        for head, env in {
            "Reuters-10k": "reuters10k",
            "1,028 German news": "gnad",
            "CIFAR-10 test images, EfficientNet-Lite2": "cifar10_lite2",
            "CIFAR-10 test images, MobileNetV2": "cifar10_mobilenet",
        }.items()
    },
    "CIFAR-10, 60,000 images from scratch": [],
    "collapse: all ten clusters": [short(scores("digits", "dcan_literal").mean())],
}


def test_the_table_of_the_readme_is_that_of_the_runs_against_the_best_baseline():
    runs = read_runs(ROOT / "docs/results/digits.csv")
    means = runs[runs["method"].isin(BASELINES)].groupby("method")["acc"].mean()
    assert means.idxmax() == "tsne_gmm"
    assert TABLE.findall(README) == [to_brief_markdown(make_leaderboard(runs, "tsne_gmm"), "tsne_gmm")]
    assert TABLE.findall(RESULTS) == [to_markdown(make_leaderboard(runs, None))]


def test_the_brief_table_says_what_the_runs_say():
    values = {"dcan": [0.9, 0.92, 0.94, 0.96, 0.98], "tsne_gmm": [0.9] * 5}
    runs = pd.DataFrame(
        [
            {"env": "d", "method": method, "variant": "", "seed": seed, "acc": acc, "cpu_seconds": 2.0}
            for method, accs in values.items()
            for seed, acc in enumerate(accs)
        ]
    ).assign(status="finished")
    half = 2.776445 * np.sqrt(0.001 / 5)  # the 97.5 % point of t with 4 degrees of freedom, and their variance
    lines = to_brief_markdown(make_leaderboard(runs, "tsne_gmm"), "tsne_gmm").splitlines()
    assert lines[0] == "| method | ACC | ACC over tsne_gmm | CPU s |"
    of_acc, of_difference = (f"[{m - half:{form}}, {m + half:{form}}]" for m, form in ((0.94, ".3f"), (0.04, "+.3f")))
    expected = f"| dcan | 0.940 {of_acc} | +0.040 {of_difference} | 2.0 |"
    assert lines[2] == expected
    assert lines[3] == "| tsne_gmm | 0.900 |  | 2.0 |"  # equal runs are one result, without an interval
    two = pd.concat([runs, runs.assign(env="e")])
    with pytest.raises(ValueError, match="runs of one environment"):
        to_brief_markdown(make_leaderboard(two, "tsne_gmm"), "tsne_gmm")


@pytest.mark.parametrize("text", [README, RESULTS], ids=["README.md", "docs/results/index.md"])
def test_every_score_outside_of_a_table_has_runs_on_file_or_a_mark(text):
    for line in TABLE.sub("", text).splitlines():
        shown = SCORE.findall(re.sub(r"\.\d{3} †", "", line))
        heads = [head for head in FIGURES if head in line]
        assert len(heads) == (1 if shown or heads else 0), line
        if heads:
            assert shown == FIGURES[heads[0]], line


# The experiments are a journal: each entry has its command and seeds, and what has no run on file says so.
# The scores of the results are compared one by one above.
PROSE = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if "experiments" not in page.parts and page != ROOT / "docs/results/index.md"
]
MARK = re.compile(r"[†‡]")
MADE = re.compile(r"<!-- ((leaderboard):[\w.-]+|shelf|more_tables|kept_aside) -->\n.*?<!-- /(\2|\1) -->", re.DOTALL)


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_score_of_the_documentation_has_runs_or_is_marked(page):
    """In each paragraph and table with scores is a link to the runs, or the mark of those that have none."""
    text = MADE.sub("", page.read_text(encoding="utf-8"))  # which are made anew from their runs in another test
    text = re.sub(r"^(```|\$\$).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks = re.sub(r"`[^`\n]+`|\$[^$]+\$", "", text).split("\n\n")
    shown = [block for block in blocks if SCORE.search(block) and not block.startswith("    ")]
    assert [block for block in shown if not MARK.search(block) and not re.search(r"\.(csv|json)\)", block)] == []
    if any(MARK.search(block) for block in shown):
        assert re.search(r"[†‡].*not? (?:runs? )?on file|[†‡].*\(\[both\]", " ".join(text.split()))


def test_the_tables_of_the_gpu_are_those_of_its_run():
    run = json.loads((ROOT / "docs/results/gpu.json").read_text())
    page = (ROOT / "docs/hardware.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    rows = {name.strip("`"): cells for name, *cells in table}
    for line in run["cifar10"][1:]:
        for name in ("kmeans", "neural_mixture_on_trunk", "self_labelled"):
            if line["stage"] == name:
                shown = rows[{"kmeans": "k-means on its embeddings"}.get(name, name)]
                assert shown[:3] == [f"{line['seconds']:.0f}", short(line["acc"]), short(line["nmi"])]
    looks = [short(line["knn"]) for line in run["cifar10"] if line.get("epoch") in (42, 84, 126)]
    assert [rows[name][-1] for name in ("trunk, 42 of 170 epochs", "84 epochs", "126 epochs")] == looks
    names = {"adversarial": "DCAN, 14 pixels, 20 epochs, adversarial"}
    for loss in ("adversarial", "gaussian_kl", "euclidean"):
        shown = rows[names.get(loss, f"the same, {loss.capitalize().replace('_kl', ' KL')}")]
        of_loss = [line for line in run["mnist"] if line["loss"] == loss]
        assert shown[1:3] == [" ".join(short(line[score]) for line in of_loss) for score in ("acc", "nmi")]


# Steps of the table of memory, and the nodes that each is.
STEPS = {
    "samples": ["load_samples"],
    "features, keys": ["extract_features", "key_rows", "nearest"],
    "fit": ["fit"],
    "assign": ["assign", "bundle"],
    "names of clusters": ["name_clusters"],
    "members, map": ["pick_members", "project"],
    "scores": ["score"],
    "table of assignments": ["tabulate"],
    "report": ["report"],
}


def test_the_table_of_memory_is_that_of_its_runs():
    runs = pd.read_json(ROOT / "docs/results/run_memory.json")
    runs = runs[runs["run"].str.endswith("+kmeans+tracked")]
    of_method = runs["run"].str.split("+").str[0]
    short_names = [
        node.split(".")[1].removesuffix(f"_{method}") for node, method in zip(runs["node"], of_method, strict=True)
    ]
    step_of = {node: step for step, nodes in STEPS.items() for node in nodes}
    runs = runs.assign(method=of_method, step=[step_of[name] for name in short_names])
    peaks = runs.groupby(["rows", "method", "step"])["mb"].max()
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    shown = {name: cells for name, *cells in table if name in STEPS}
    columns = [(3_000_000, "dcan"), (3_000_000, "neural_mixture"), (300_000, "dcan"), (300_000, "neural_mixture")]
    assert shown == {step: [f"{peaks[*column, step]:,}" for column in columns] for step in STEPS}
    assert set(runs.loc[runs["rows"] == 3_000_000, "before_mb"]) == {519}
    assert f"at most {peaks[3_000_000].max():,} MB" in " ".join(page.split())


def test_the_table_of_consensuses_is_that_of_the_runs():
    runs, made, losses = (
        pd.read_csv(ROOT / f"docs/results/{name}.csv") for name in ("digits", "digits_consensus", "dcan_losses")
    )
    page = (ROOT / "docs/consensus.md").read_text(encoding="utf-8")
    names = {
        "NMM-EM": "neural_mixture",
        "NMM-EM, literal": "neural_mixture_literal",
        "DCAN": "dcan",
        "DCAN, literal": "dcan_literal",
        "Gaussian mixture": "gmm",
        "k-means": "kmeans",
    }
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    rows = {name: cells for name, *cells in table}
    for shown, name in names.items():
        whole = made.loc[made["method"] == f"{name} (consensus of 10)", "acc"].item()
        assert rows[shown][0] == short(runs.loc[runs["method"] == name, "acc"].mean())
        assert rows[shown][2] == short(whole)
    digits = losses[losses["env"] == "digits"]
    for shown, loss in (("adversarial", "adversarial"), ("Gaussian KL", "gaussian_kl"), ("Euclidean", "euclidean")):
        of_loss = digits[digits["variant"] == f"loss={loss}"]
        mean, whole = (of_loss.loc[of_loss["consensus_of"].isna() == single, "acc"] for single in (True, False))
        assert rows[f"DCAN, no start, {shown} †"][0] == short(mean.mean())
        assert rows[f"DCAN, no start, {shown} †"][2] == short(whole.item())


def test_the_sentences_about_the_choice_and_the_literal_readings_are_those_of_the_runs():
    runs = pd.read_csv(ROOT / "docs/results/digits.csv")
    text = " ".join(RESULTS.split())
    for method, score, name in (
        ("neural_mixture", "log_likelihood", "NMM-EM"),
        ("dcan", "view_information", "DCAN"),
    ):
        of_method = runs[runs["method"] == method]
        name_of_score = "pair_log_likelihood" if "pair_log_likelihood" in of_method and method == "dcan" else score
        rho = stats.spearmanr(of_method[name_of_score], of_method["acc"]).statistic
        assert f"{rho:+.2f}".replace("0.", ".") + f" for {name}" in text
    collapsed = runs.groupby("method")["collapsed"].sum()
    assert collapsed["dcan_literal"] == 0
    assert (runs.loc[runs["method"] == "dcan_literal", "n_occupied"] == 10).all()
    assert collapsed["neural_mixture_literal"] == 5


def test_the_first_page_links_to_every_page_and_every_link_leads_somewhere():
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link}
    assert [link for link in links if not (ROOT / link).exists()] == []
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    of_overviews = {
        page
        for folder in ("docs/experiments/", "docs/methods/")
        for page in pages
        if page.startswith(folder) and f"]({page.removeprefix(folder)}" in (ROOT / folder / "index.md").read_text()
    }
    assert pages - of_overviews <= links


def test_the_python_of_the_first_page_runs(monkeypatch):
    """As it stands, but with fewer rows and one epoch from random clusters."""
    from sklearn import datasets

    from deep_clustering import settings

    rows = datasets.load_digits()
    rows.images = rows.images[:300]
    monkeypatch.setattr(datasets, "load_digits", lambda: rows)

    whole = settings.read_options
    short_run = {"epochs": 1, "start": {"kind": "none"}, "device": "cpu"}
    monkeypatch.setattr(settings, "read_options", lambda method: whole(method, **short_run))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert sum(bool(line) for line in code.splitlines()) == 5
    names: dict = {}
    exec(code, names)
    assert names["clusters"].shape == (300,)
    assert set(names["clusters"]) <= set(range(10))
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        whole("dcan", epoch=1)
    with pytest.raises(ValueError, match="did you mean 'dcan'"):
        whole("dcam")


def test_the_pictures_of_the_first_page_are_small():
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(pictures) == 2
    assert all(0 < (ROOT / picture).stat().st_size <= 300_000 for picture in pictures)


def test_the_citation_names_this_version_and_both_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == deep_clustering.__version__
    assert {paper["url"].rpartition("/")[2] for paper in cited["references"]} == {"2412.08933", "2107.02453"}
    titles = {paper["title"] for paper in cited["references"]} | {cited["title"]}
    assert titles == set(re.findall(r"^  title = \{([^}]+)\}", README, re.MULTILINE))
    assert f"version = {{{deep_clustering.__version__}}}" in README
    for name in ("dcan", "neural_mixture"):
        header = " ".join((ROOT / f"src/deep_clustering/methods/{name}.py").read_text("utf-8")[:600].split())
        assert any(title.lower() in header.lower() for title in titles - {cited["title"]})


def test_the_workflow_runs_both_commands_on_every_python_that_is_supported():
    import tomllib

    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [step.get("run") for step in jobs["commands"]["steps"]]
    assert {"make run", "make test"} <= set(steps)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = (int(found) for found in re.findall(r"3\.(\d+)", wanted))
    assert jobs["commands"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(low, high)]
