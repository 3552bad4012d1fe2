"""What a stranger's first command gives: `kedro new-data`, then `kedro run`, on a shelf of data sets of many kinds.

    python benchmarks/shelf.py --data FOLDER [--sets iris wine] [--seeds 0 1 2] [--out shelf.csv] [--work build/shelf]

FOLDER holds `data/` and `weights/` as `DEEP_CLUSTERING_DATA` does for the tests; `data/unpack.py` there makes plain
files of the image sets. Classes are given to `new-data --labels` and reach nothing but scores. Every row of the table
is one method of one run: its score without labels, its accuracy, whether it was recommended, and the seconds of the
run. With `--table` the file is read again and the summary is printed: the recommended partition beside the best
baseline, and the rank correlation of score and accuracy.
"""

import argparse
import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import normalized_mutual_info_score

from deep_clustering.own_data.suggestions import uneven_columns
from deep_clustering.scores.metrics import accuracy, contingency

COLUMNS = [
    "set",
    "seed",
    "method",
    "acc",
    "nmi",
    "score",
    "recommended",
    "run_seconds",
    "run_cpu_seconds",
    "look_seconds",
]
LITE2 = "timm:tf_efficientnet_lite2"
# K-means on the rows as they come, for comparison; it is not asked by a run.
RAW = "kmeans_raw"
# What recommendations must not fall behind.
BASELINES = ("kmeans", "ward", "tsne_gmm")


def table(name: str, load: Callable) -> Callable[[Path, Path], list[str]]:
    """A table of numbers with a column of classes."""

    def make(data: Path, work: Path) -> list[str]:
        bunch = load()
        frame = pd.DataFrame(bunch.data, columns=[f"x{i}" for i in range(bunch.data.shape[1])])
        frame["class"] = bunch.target
        frame.to_csv(work / f"{name}.csv", index=False)
        return ["--array", str(work / f"{name}.csv"), "--labels", "class"]

    return make


def groups(sizes: tuple[int, ...]) -> Callable[[Path, Path], list[str]]:
    """Gaussian groups of unequal sizes in 64 dimensions."""

    def make(data: Path, work: Path) -> list[str]:
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(len(sizes)), sizes)
        rows = rng.normal(size=(len(sizes), 64))[labels] + rng.normal(size=(len(labels), 64))
        np.savez(work / "groups.npz", rows=rows.astype(np.float32), labels=labels)
        return ["--array", str(work / "groups.npz"), "--key", "rows", "--labels", "labels"]

    return make


def german(data: Path, work: Path) -> list[str]:
    """News as published: semicolons, single quotes, no header."""
    return ["--text", str(data / "data/strangers/gnad_test.csv"), "--column", "1", "--labels", "0"]


def signs(*more: str) -> Callable[[Path, Path], list[str]]:
    """Photographs of hand signs in a folder a class."""

    def make(data: Path, work: Path) -> list[str]:
        with tarfile.open(data / "data/strangers/signs.tar") as archive:
            archive.extractall(work, filter="data")
        return ["--images", str(work / "signs"), "--labels", "folders", *lite2(data, more)]

    return make


def lite2(data: Path, more: tuple[str, ...]) -> list[str]:
    """Options of the network where it is asked for."""
    file = data / "weights/tf_efficientnet_lite2_imagenet_features.safetensors"
    return ["--backbone", LITE2, "--backbone-weights", str(file)] if more else []


def photographs(archive: str, n_images: int, *more: str) -> Callable[[Path, Path], list[str]]:
    """The first images of a set as files in a folder a class."""

    def make(data: Path, work: Path) -> list[str]:
        from PIL import Image

        unpack(data, work, archive.split("/")[0])
        arrays = np.load(work / archive)
        for place, (image, label) in enumerate(
            zip(arrays["images"][:n_images], arrays["labels"][:n_images], strict=True)
        ):
            file = work / "photographs" / f"{label:02d}" / f"{place:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        return ["--images", str(work / "photographs"), "--labels", "folders", *lite2(data, more)]

    return make


def mnist(data: Path, work: Path) -> list[str]:
    """The first 3,000 training images of MNIST as one array."""
    from torchvision.datasets import MNIST

    unpack(data, work, "mnist")
    loaded = MNIST(work, train=True)
    np.savez(work / "mnist.npz", images=loaded.data[:3000].numpy(), labels=loaded.targets[:3000].numpy())
    return ["--array", str(work / "mnist.npz"), "--key", "images", "--labels", "labels"]


def reuters(*parts: str) -> Callable[[Path, Path], list[str]]:
    """Reuters-21578: documents of one of the ten largest topics."""

    def make(data: Path, work: Path) -> list[str]:
        unpack(data, work, "reuters21578")
        found = []
        for file in sorted((work / "reuters21578").rglob("*.sgm")):
            for document in re.findall(r"<REUTERS.*?</REUTERS>", file.read_text("latin-1"), re.DOTALL):
                topics = re.findall(r"<D>(.*?)</D>", re.search(r"<TOPICS>(.*?)</TOPICS>", document)[1])
                pieces = [re.search(f"<{part}>(.*?)</{part}>", document, re.DOTALL) for part in parts]
                if len(topics) == 1:
                    found.append((topics[0], " ".join(piece[1] for piece in pieces if piece)))
        frame = pd.DataFrame(found, columns=["topic", "text"])
        frame = frame[frame.topic.isin(frame.topic.value_counts().index[:10])]
        frame = frame.sample(5000, random_state=0) if len(frame) > 5000 else frame
        frame.to_csv(work / "reuters.csv", index=False)
        return ["--text", str(work / "reuters.csv"), "--column", "text", "--labels", "topic"]

    return make


def chinese(data: Path, work: Path) -> list[str]:
    """Made-up texts without spaces: words of two characters, some of a topic, most of all topics."""
    rng = np.random.default_rng(0)
    characters = [chr(0x4E00 + int(place)) for place in rng.choice(3000, 700, replace=False)]
    words = ["".join(rng.choice(characters, 2)) for _ in range(1400)]
    rows = []
    for _ in range(1500):
        topic = int(rng.choice(6, p=[0.3, 0.25, 0.15, 0.15, 0.1, 0.05]))
        own, common = words[topic * 100 : topic * 100 + 100], words[600:]
        drawn = [
            rng.choice(own) if rng.random() < 0.12 else rng.choice(common) for _ in range(int(rng.integers(30, 90)))
        ]
        rows.append((f"{topic}", "".join(drawn)))
    pd.DataFrame(rows, columns=["topic", "text"]).to_csv(work / "chinese.csv", index=False)
    return ["--text", str(work / "chinese.csv"), "--column", "text", "--labels", "topic"]


SHELF: dict[str, Callable[[Path, Path], list[str]]] = {
    "iris": table("iris", load_iris),
    "wine": table("wine", load_wine),
    "breast_cancer": table("breast_cancer", load_breast_cancer),
    "digits": table("digits", load_digits),
    "groups_4": groups((1000, 600, 300, 100)),
    "groups_3": groups((1800, 100, 100)),
    "german_news": german,
    "chinese": chinese,
    "signs": signs(),
    "signs_lite2": signs("lite2"),
    "mnist_3000": mnist,
    "cifar10_2000": photographs("cifar10/test.npz", 2000, "lite2"),
    "cifar10_2000_no_network": photographs("cifar10/test.npz", 2000),
    "cifar100_2000": photographs("cifar100/subset.npz", 2000, "lite2"),
    "cifar100_2000_no_network": photographs("cifar100/subset.npz", 2000),
    "reuters_titles": reuters("TITLE"),
    "reuters_bodies": reuters("TITLE", "BODY"),
}


def unpack(data: Path, work: Path, what: str) -> None:
    """Plain files of a set."""
    subprocess.run([sys.executable, data / "data/unpack.py", work, what], check=True, stdout=subprocess.DEVNULL)


def kedro(*arguments: str) -> tuple[str, float, float]:
    """Output, seconds and processor seconds of a command."""
    began, used = time.perf_counter(), _cpu()
    done = subprocess.run([sys.executable, "-m", "kedro", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kedro {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout, time.perf_counter() - began, _cpu() - used


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def newest(folder: Path, file: str) -> Path:
    """The file of the newest version."""
    return sorted((folder / file).glob(f"*/{file}"))[-1]


def run_set(
    name: str, make: Callable[[Path, Path], list[str]], data: Path, work: Path, seeds: list[int], out: Path
) -> None:
    """Both commands on one set, every seed a run; rows are written as they come."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    env = f"shelf_{name}"
    try:
        looked, look_seconds, _ = kedro("new-data", env, "--force", *make(data, folder))
        print(looked, flush=True)
        for seed in seeds:
            params = f"--params=seed={seed},tracking.enabled=false"
            # With seed 0 it is the whole command, whose time is told; the others leave out maps and pages.
            part = ["--to-nodes=evaluation.compare_methods"] if seed else []
            _, seconds, cpu = kedro("run", f"--env={env}", params, *part)
            compared = Path("data/08_reporting") / env / "comparison"
            chosen = json.loads(newest(compared, "recommendation.json").read_text())
            scores = pd.read_csv(newest(compared, "comparison.csv")).set_index("method")
            for method, row in scores.iterrows():
                line = {
                    "set": name,
                    "seed": seed,
                    "method": method,
                    "acc": round(row["acc"], 4),
                    "nmi": round(row["nmi"], 4),
                    "score": round(chosen["scores"][method]["score"], 4),
                    "recommended": int(method == chosen["method"]),
                    "run_seconds": round(seconds, 1),
                    "run_cpu_seconds": round(cpu, 1),
                    "look_seconds": round(look_seconds, 1),
                }
                append(out, line)
            raw = {name: round(value, 4) for name, value in raw_kmeans(env, seed).items()}
            append(out, {"set": name, "seed": seed, "method": RAW, **raw, "recommended": 0})
            print(name, seed, chosen["sentence"], f"{seconds:.0f} s", flush=True)
    finally:
        shutil.rmtree(Path("conf") / env, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def raw_kmeans(env: str, seed: int) -> dict[str, float]:
    """K-means on the rows as they come: pixels, terms, columns (standardised where their scales are unequal)."""
    primary = Path("data/03_primary") / env
    rows = newest_rows(primary)
    labels = np.load(newest(primary, "labels.npy"))
    card = json.loads(newest(primary, "data_card.json").read_text())
    if not sparse.issparse(rows):
        rows = rows.reshape(len(rows), -1).astype(np.float32)
        deviations = rows.std(axis=0)
        if card["source"].endswith(".csv") and uneven_columns(deviations):
            rows = (rows - rows.mean(axis=0)) / np.where(deviations > 0, deviations, 1)
    n_classes = len(np.unique(labels))
    clusters = KMeans(n_classes, n_init=10, random_state=seed).fit_predict(rows)
    table = contingency(clusters, labels, n_classes, n_classes)
    return {"acc": accuracy(table), "nmi": normalized_mutual_info_score(labels, clusters)}


def newest_rows(primary: Path) -> np.ndarray | sparse.csr_matrix:
    """Samples, dense or sparse."""
    if (primary / "samples.npy").exists():
        return np.load(newest(primary, "samples.npy"))
    return sparse.load_npz(newest(primary, "samples.npz"))


def append(out: Path, line: dict) -> None:
    """Add a line to the table."""
    is_new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(line)


def summarise(out: Path) -> str:
    """The table of the shelf in Markdown: means over the seeds."""
    rows = pd.read_csv(out)
    lines = [
        "| set | recommended | its ACC | best baseline | k-means, raw rows | rank correlation | CPU s of a run |",
        "|---|---|---|---|---|---|---|",
    ]
    gaps, gains, correlations = [], [], []
    for name, found in rows.groupby("set", sort=False):
        taken = found[found.recommended == 1]
        means = found.groupby("method").acc.mean()
        best = max(means[method] for method in BASELINES if method in means)
        asked = found[found.method != RAW]
        rho = np.mean([rank_correlation(each.score, each.acc) for _, each in asked.groupby("seed")])
        gaps.append(taken.acc.mean() - best)
        gains.append(taken.acc.mean() - means[RAW])
        correlations.append(rho)
        lines.append(
            f"| {name} | {', '.join(sorted(set(taken.method)))} | {taken.acc.mean():.3f} | {best:.3f} | "
            f"{means[RAW]:.3f} | {'' if np.isnan(rho) else f'{rho:.2f}'} | {taken.run_cpu_seconds.iloc[0]:.0f} |"
        )
    lines.append(
        f"\nRecommended less best baseline: mean {np.mean(gaps):+.3f}, least {np.min(gaps):+.3f}; less k-means: mean "
        f"{np.mean(gains):+.3f}. Rank correlation of score and ACC, mean over sets: {np.nanmean(correlations):.2f}."
    )
    return "\n".join(lines)


def rank_correlation(score: pd.Series, acc: pd.Series) -> float:
    """Spearman's, NaN where one of them is the same for all."""
    return spearmanr(score, acc).statistic if min(score.nunique(), acc.nunique()) > 1 else np.nan


def make_parser(name: str, description: str | None, sets: Mapping[str, Callable]) -> argparse.ArgumentParser:
    """What a benchmark of some sets may be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DEEP_CLUSTERING_DATA", "")))
    parser.add_argument("--sets", nargs="+", choices=sets, default=list(sets))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(f"build/{name}.csv"))
    parser.add_argument("--work", type=Path, default=Path(f"build/{name}"))
    parser.add_argument("--table", action="store_true", help="only sum up --out")
    return parser


def run_and_sum_up(chosen: argparse.Namespace, sets: Mapping[str, Callable[[Path, Path], list[str]]]) -> None:
    """Run what was chosen, unless the table alone is asked for, and print the table."""
    if not chosen.table:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        for name in chosen.sets:
            run_set(name, sets[name], chosen.data, chosen.work, chosen.seeds, chosen.out)
    print(summarise(chosen.out))


def main() -> None:
    """Parse, run, sum up."""
    run_and_sum_up(make_parser("shelf", __doc__, SHELF).parse_args(), SHELF)


if __name__ == "__main__":
    main()
