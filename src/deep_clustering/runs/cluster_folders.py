"""The rows of each cluster as files in a folder of its own: links or copies of images, pictures, texts, or tables.

Everything is written beside its place under a name that nobody takes for a result, and renamed when it is complete.
"""

import os
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from deep_clustering.atomic import ABANDONED_SECONDS, naming
from deep_clustering.reporting.assignment_table import for_spreadsheets
from deep_clustering.reporting.terms import describe_rows
from deep_clustering.training.progress import meter

# Characters and bytes of the longest name; file systems take 255 bytes.
_MOST_CHARACTERS, _MOST_BYTES = 60, 180
_TERMS_OF_A_ROW = 10

Write = Callable[[int, Path], None]
"""Writes the sample of a number to a path."""


def write_files(
    target: Path, table: pd.DataFrame, names: Sequence[str], write: Write, name_of: Callable[[str], str]
) -> Path:
    """Write a folder for each cluster with a file for each of its samples, and the table beside them.

    Args:
        target: The folder of all; it must not exist or be empty.
        table: What `reporting.assignment_table.tabulate` gave.
        names: Name of each cluster.
        write: Writes one sample.
        name_of: Name of a sample's file, made of its id.

    Returns:
        The folder.

    Raises:
        FileExistsError: if there is something in it.
        OSError: if something cannot be written; nothing is left behind.
    """
    with _finished_folder(target) as part:
        assigned = table[table["skipped"] == ""]
        folders = [part / folder_name(cluster, name, len(names)) for cluster, name in enumerate(names)]
        for cluster in sorted(set(assigned["cluster"])):  # one that is empty, as when it went into another, has none
            folders[int(cluster)].mkdir()
        files = distinct_names(safe_name(name_of(one)) for one in assigned["id"])
        with _meter(len(assigned)) as count:
            for row, cluster, file in zip(assigned["row"], assigned["cluster"], files, strict=True):
                write(int(row), folders[int(cluster)] / file)
                count(1)
        for_spreadsheets(table).to_csv(part / "assignments.csv", index=False)
    return target


def write_tables(
    target: Path,
    table: pd.DataFrame,
    names: Sequence[str],
    samples: np.ndarray | sparse.csr_matrix,
    terms: list[str],
    columns: Sequence[str] = (),
) -> Path:
    """Write a CSV for each cluster with the values of its rows, or the strongest terms of sparse ones.

    Args:
        target: The folder of all; it must not exist or be empty.
        table: What `reporting.assignment_table.tabulate` gave.
        names: Name of each cluster.
        samples: Shape (n_samples, n_features).
        terms: Term of each column; empty for other data.
        columns: Name of each column of a table; of others they are called x0, x1, ...

    Returns:
        The folder.

    Raises:
        FileExistsError: if there is something in it.
        OSError: if something cannot be written; nothing is left behind.
    """
    shown = for_spreadsheets(table)
    with _finished_folder(target) as part, _meter(len(names)) as count:
        for cluster, name in enumerate(names):
            count(1)
            members = shown[(table["cluster"] == cluster).fillna(False)].drop(columns="skipped")
            if members.empty:
                continue
            rows = members["row"].to_numpy(dtype=np.int64)
            values = _values(samples, rows, terms, columns).set_axis(members.index)
            joined = pd.concat([members, for_spreadsheets(values)], axis=1)
            joined.to_csv(part / f"{folder_name(cluster, name, len(names))}.csv", index=False)
        shown.to_csv(part / "assignments.csv", index=False)
    return target


def linker(files: Mapping[int, Path], target: Path, *, copy: bool) -> Write:
    """What puts the file of a sample into a folder: a relative link, or else a hard link, or else a copy.

    Args:
        files: File of each sample.
        target: The folder of all.
        copy: Whether copies are wanted in any case.

    Returns:
        The function; links stay right if project and folder are moved together.
    """
    final = target.parent.resolve() / target.name / "cluster"

    def write(row: int, path: Path) -> None:
        source = files[row].resolve()
        ways = [] if copy else [lambda: path.symlink_to(os.path.relpath(source, final)), lambda: os.link(source, path)]
        for way in ways:
            try:
                way()
            except (OSError, NotImplementedError):  # a file system, or a Windows, without such links
                continue
            return
        shutil.copy2(source, path)

    return write


def picture_writer(images: np.ndarray, value_range: Sequence[float]) -> Write:
    """What writes an image as PNG.

    Args:
        images: Shape (n, channels, height, width), 1 or 3 channels.
        value_range: What becomes black and white.
    """
    low, high = value_range

    def write(row: int, path: Path) -> None:
        stretched = (np.asarray(images[row], dtype=np.float64) - low) * (255 / (high - low if high > low else 1))
        pixels = np.round(np.clip(stretched, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)).save(path, "PNG")

    return write


def folder_name(cluster: int, name: str, n_clusters: int) -> str:
    """Number and name of a cluster, such as "03_cat", with as many digits for each."""
    number = f"{cluster:0{max(2, len(str(n_clusters - 1)))}d}"
    return f"{number}_{safe_name(name)}".rstrip("_")


def safe_name(text: str) -> str:
    """A text as the name of a file: letters, marks and digits of any script, and no name that a file system refuses."""
    name = re.sub(r"_{3,}", "__", "".join(one if _is_of_word(one) or one in "._-" else "_" for one in text))
    stem, dot, ending = name.strip("_. ").rpartition(".")
    if not dot or len(ending) > 5:
        stem, ending = f"{stem}{dot}{ending}", ""
    ending = f".{ending}" if ending else ""
    stem = stem[:_MOST_CHARACTERS]
    while len(stem.encode()) > _MOST_BYTES:
        stem = stem[:-1]
    # "con", "nul" and their like are devices to Windows, with any ending
    if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", stem):
        stem = f"{stem}_"
    return f"{stem}{ending}"


def _is_of_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")


def distinct_names(names: Iterator[str]) -> list[str]:
    """The same names, with a number where one has been taken, also if only by case."""
    taken: dict[str, int] = {}
    result = []
    for name in names:
        stem, ending = os.path.splitext(name or "row")
        one = f"{stem}{ending}"
        while one.casefold() in taken:
            taken[(stem + ending).casefold()] += 1
            one = f"{stem}_{taken[(stem + ending).casefold()]}{ending}"
        taken[one.casefold()] = 1
        result.append(one)
    return result


@contextmanager
def _finished_folder(target: Path) -> Iterator[Path]:
    """A folder that gets its name only if the block ends well."""
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"export-clusters: {target} is not empty; choose another folder, or remove it")
    parent = target.parent.resolve()
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent, target.name)
    part = parent / f".{target.name}.{uuid.uuid4().hex}.part"
    part.mkdir()
    try:
        with naming(target):
            yield part
            if target.is_dir():
                target.rmdir()
            part.rename(parent / target.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove_abandoned(parent: Path, name: str) -> None:
    """Remove what killed exports to the same folder have left."""
    for left in parent.iterdir():
        is_part = re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{32}}\.part", left.name) is not None
        if is_part and time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _meter(total: int) -> AbstractContextManager[Callable[[int], object]]:
    return meter(
        "export-clusters",
        "file",
        total,
        lambda reading: f"{reading.done} of {reading.total}, {reading.left:.0f} s left",
    )


def _values(
    samples: np.ndarray | sparse.csr_matrix, rows: np.ndarray, terms: list[str], columns: Sequence[str]
) -> pd.DataFrame:
    """A column for each feature; of sparse rows their strongest terms, or how many values they have."""
    if not sparse.issparse(samples):
        flat = np.asarray(samples[rows]).reshape(len(rows), -1)
        named = columns if len(columns) == flat.shape[1] else [f"x{column}" for column in range(flat.shape[1])]
        return pd.DataFrame(flat, columns=list(named))
    if terms:
        return pd.DataFrame({"terms": describe_rows(samples, terms, rows, _TERMS_OF_A_ROW)})
    return pd.DataFrame({"n_values": np.diff(samples[rows].indptr)})
