"""What a person says of the clusters of a fitted method, in a CSV file, and the clusters that come of it.

Two kinds of file, told apart by their header:

    cluster, name, merge_into, split    a line for each cluster that is to change; any of the last three columns
    row_a, row_b, same                  a line for each pair of rows: 1 if they belong together, 0 if they do not

Pairs vote. Two clusters become one if more of the pairs between them say 1 than 0; of several that hang together the
one of most rows keeps its number. A cluster becomes two if more of the pairs within it say 0 than 1, by k-means that
starts from the rows of those pairs. A pair is a vote, no constraint: one that is outvoted is not met, and the log says
how many are.
"""

import csv
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from deep_clustering.methods.corrections import Corrected, Step
from deep_clustering.options import closest
from deep_clustering.training.described import Described

logger = logging.getLogger(__name__)

_CHANGES, _PAIRS = ("cluster", "name", "merge_into", "split"), ("row_a", "row_b", "same")
# Longer numbers than those of any row; Python refuses to read thousands of digits.
_DIGITS = 19
# Starts of the k-means that parts a cluster.
_N_INIT = 20


class Change(NamedTuple):
    """What is to become of a cluster."""

    line: int
    """In the file, from 1."""
    cluster: int
    name: str = ""
    """Empty: none is given."""
    merge_into: int | None = None
    split: int | None = None
    """Number of parts."""


class Pair(NamedTuple):
    """Whether two rows belong together."""

    line: int
    row_a: int
    row_b: int
    same: int


class Feedback(NamedTuple):
    """All that a file says; either changes or pairs."""

    file: Path
    changes: tuple[Change, ...] = ()
    pairs: tuple[Pair, ...] = ()


def read_feedback(file: Path) -> Feedback:
    """Read a file of feedback; whether its clusters and rows exist is seen when it is applied.

    Args:
        file: A CSV file in UTF-8, see the module.

    Returns:
        What it says.

    Raises:
        ValueError: naming line and column of the first cell that cannot be meant.
    """
    if not file.is_file():
        raise ValueError(f"feedback: no file {file}; expected a CSV with the columns {_either()}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            header = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            known = _PAIRS if set(header) & set(_PAIRS) else _CHANGES
            _check_header(file, header, known)
            lines = [(reader.line_num, line) for line in reader if any(map(_has_text, line.values()))]
    except UnicodeDecodeError as error:
        raise ValueError(f"feedback: {file}: expected UTF-8 text, got other bytes ({error})") from error
    except csv.Error as error:
        raise ValueError(f"feedback: {file}: expected lines of a CSV file ({error})") from error
    if not lines:
        raise ValueError(f"feedback: {file}: expected a line for each change, got a header only")
    if known is _PAIRS:
        return Feedback(file, pairs=tuple(_pair(_Cells(file, *line)) for line in lines))
    return Feedback(file, changes=tuple(_change(_Cells(file, *line)) for line in lines))


def _either() -> str:
    return f"{', '.join(_CHANGES)}, or {', '.join(_PAIRS)}"


def _has_text(cell: str | list[str] | None) -> bool:
    return isinstance(cell, list) or bool((cell or "").strip())


def _check_header(file: Path, header: Sequence[str], known: Sequence[str]) -> None:
    needed = known if known is _PAIRS else known[:1]
    missing = [name for name in needed if name not in header]
    if missing:
        raise ValueError(f"feedback: {file}, line 1: no column '{missing[0]}'; expected {_either()}, got {header}")
    for name in header:
        if name not in known or header.count(name) > 1:
            found = "it is there twice" if name in known else closest(name, known)
            raise ValueError(f"feedback: {file}, line 1: column '{name}' cannot be used ({found})")


class _Cells(NamedTuple):
    """A line of a file."""

    file: Path
    line: int
    cells: Mapping[str, str | list[str] | None]

    def text(self, column: str) -> str:
        if None in self.cells:
            raise ValueError(f"feedback: {self.file}, line {self.line}: more cells than the header has columns")
        return str(self.cells.get(column) or "").strip()

    def number(self, column: str, least: int, most: int | None = None) -> int | None:
        text = self.text(column)
        if not text:
            return None
        expected = f"{least} to {most}" if most is not None else f"at least {least}"
        if not (
            text.isascii()
            and text.isdigit()
            and len(text) < _DIGITS
            and least <= int(text)
            and (most is None or int(text) <= most)
        ):
            raise self.wrong(column, f"got {text[:80]!r}, expected a whole number, {expected}")
        return int(text)

    def needed(self, column: str, most: int | None = None) -> int:
        number = self.number(column, 0, most)
        if number is None:
            raise self.wrong(column, "is empty, expected a whole number")
        return number

    def wrong(self, column: str, what: str) -> ValueError:
        return _wrong(self.file, self.line, column, what)


def _wrong(file: Path, line: int, column: str, what: str) -> ValueError:
    return ValueError(f"feedback: {file}, line {line}, column '{column}': {what}")


def _pair(cells: _Cells) -> Pair:
    pair = Pair(cells.line, cells.needed("row_a"), cells.needed("row_b"), cells.needed("same", 1))
    if pair.row_a == pair.row_b:
        raise cells.wrong("row_b", f"got {pair.row_b}, the row of row_a; expected another one")
    return pair


def _change(cells: _Cells) -> Change:
    name = cells.text("name")
    change = Change(cells.line, cells.needed("cluster"), name, cells.number("merge_into", 0), cells.number("split", 2))
    if change.merge_into == change.cluster:
        raise cells.wrong("merge_into", f"got {change.cluster}, the cluster itself; expected another one")
    if change.merge_into is not None and change.split is not None:
        raise cells.wrong("split", "a cluster is either split or merged; leave one of the two cells empty")
    if not (name or change.merge_into is not None or change.split is not None):
        raise cells.wrong("cluster", f"nothing is said of cluster {change.cluster}; fill a name, merge_into or split")
    return change


class _Plan(NamedTuple):
    """What is to be done, whoever said so."""

    merges: dict[int, int]
    """The cluster that each goes into."""
    splits: dict[int, Callable[[np.ndarray], np.ndarray]]
    """What gives the centres of the parts of a cluster from the latent of its rows."""
    names: dict[int, str]


def apply_feedback(
    feedback: Feedback, method: Corrected, said: Described, is_fitted: np.ndarray, seed: int
) -> Corrected:
    """Change the clusters of a fitted method as a file says; nothing is trained.

    Args:
        feedback: What the file says.
        method: The fitted method.
        said: What it says of the rows, which pairs speak of.
        is_fitted: Rows that the parts of a cluster are found in, shape (n_samples,), boolean.
        seed: Seed of the k-means that finds them.

    Returns:
        The method with one more change: the other clusters keep their numbers, joined clusters share the number of
        the one that they go into, the largest part of a cluster keeps its number, and other parts get the next
        numbers that none has had.

    Raises:
        ValueError: naming line and column of what is no cluster or row, or contradicts another line.
    """
    width = said.responsibilities.shape[1]
    there = method.there(width)
    plan = _of_changes(feedback, there, seed) if feedback.changes else _of_pairs(feedback, said, there)
    step = _step(plan, said, is_fitted, width)
    _report(feedback, step, plan, said)
    return method.then(step, _names(feedback, method.names, plan))


def check_clusters(feedback: Feedback, there: Sequence[int]) -> None:
    """Refuse numbers that no cluster has.

    Args:
        feedback: What a file says.
        there: Numbers of the clusters.

    Raises:
        ValueError: naming line and column of the first that is no cluster.
    """
    for change in feedback.changes:
        for column in ("cluster", "merge_into"):
            number = getattr(change, column)
            if number is not None and number not in there:
                known = ", ".join(map(str, there))
                raise _wrong(feedback.file, change.line, column, f"there is no cluster {number} (there are {known})")


def _step(plan: _Plan, said: Described, is_fitted: np.ndarray, width: int) -> Step:
    """The change that a plan asks for, with numbers from `width` on for new parts."""
    free = width
    parts: dict[int, list[int]] = {}
    centroids: dict[int, np.ndarray] = {}
    for cluster, find in sorted(plan.splits.items()):
        latent = said.latent[(said.assignments == cluster) & is_fitted]
        found = find(latent)
        sizes = np.bincount(pairwise_distances_argmin(latent, found), minlength=len(found))
        centroids[cluster] = found[np.argsort(-sizes, kind="stable")].astype(np.float32)
        parts[cluster] = [cluster, *range(free, free + len(found) - 1)]
        free += len(found) - 1
    return Step([plan.merges.get(cluster, cluster) for cluster in range(width)], parts, centroids, free)


def _of_changes(feedback: Feedback, there: Sequence[int], seed: int) -> _Plan:
    """What the lines of a file about clusters ask for."""
    check_clusters(feedback, there)
    lines: dict[int, Change] = {}
    for change in feedback.changes:
        if change.cluster in lines:
            before = lines[change.cluster].line
            raise _wrong(feedback.file, change.line, "cluster", f"line {before} is about cluster {change.cluster} too")
        lines[change.cluster] = change
    for change in lines.values():
        target = lines.get(-1 if change.merge_into is None else change.merge_into)
        if target and (target.merge_into is not None or target.split):
            what = f"is itself merged into {target.merge_into}" if target.split is None else "is itself split"
            what = f"cluster {target.cluster} {what} (line {target.line}); name a cluster that stays"
            raise _wrong(feedback.file, change.line, "merge_into", what)
    merges = {change.cluster: change.merge_into for change in lines.values() if change.merge_into is not None}
    splits = {line.cluster: _parted(feedback.file, line, seed) for line in lines.values() if line.split is not None}
    return _Plan(merges, splits, {change.cluster: change.name for change in lines.values() if change.name})


def _parted(file: Path, change: Change, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    def find(latent: np.ndarray) -> np.ndarray:
        n_different = len(np.unique(latent, axis=0))
        if n_different < (change.split or 0):
            what = f"got {change.split}, but cluster {change.cluster} has {n_different} different rows"
            raise _wrong(file, change.line, "split", what)
        return KMeans(change.split, n_init=_N_INIT, random_state=seed).fit(latent).cluster_centers_

    return find


def _names(feedback: Feedback, former: Mapping[int, str], plan: _Plan) -> dict[int, str]:
    """Names behind all changes: one given to a merged cluster is that of the cluster it went into."""
    given: dict[int, str] = {}
    for change in sorted(feedback.changes, key=lambda change: change.merge_into is not None):
        number = plan.merges.get(change.cluster, change.cluster)
        if change.name and given.setdefault(number, change.name) != change.name:
            what = f"got {change.name!r}, but cluster {number} is called {given[number]!r} by another line"
            raise _wrong(feedback.file, change.line, "name", what)
    names = {number: name for number, name in former.items() if number not in plan.merges} | given
    twice = [name for name, n in Counter(names.values()).items() if n > 1]
    if twice:
        numbers = " and ".join(str(number) for number, name in sorted(names.items()) if name == twice[0])
        line = next(change.line for change in feedback.changes if change.name == twice[0])
        what = f"clusters {numbers} would both be called {twice[0]!r}; give them two names, or merge them"
        raise _wrong(feedback.file, line, "name", what)
    return dict(sorted(names.items()))


def _of_pairs(feedback: Feedback, said: Described, there: Sequence[int]) -> _Plan:
    """What the votes of pairs of rows ask for."""
    n_samples, votes = len(said.assignments), Counter[tuple[int, int]]()
    within: dict[int, list[Pair]] = {}
    for pair in feedback.pairs:
        for column in ("row_a", "row_b"):
            if getattr(pair, column) >= n_samples:
                what = f"there is no row {getattr(pair, column)}; rows go from 0 to {n_samples - 1}"
                raise _wrong(feedback.file, pair.line, column, what)
        first, second = sorted((int(said.assignments[pair.row_a]), int(said.assignments[pair.row_b])))
        votes[first, second] += 1 if pair.same else -1
        if first == second and not pair.same:
            within.setdefault(first, []).append(pair)
    joined = [clusters for clusters, lead in votes.items() if clusters[0] != clusters[1] and lead > 0]
    merges = _joined(feedback.file, votes, joined, np.bincount(said.assignments, minlength=max(there) + 1))
    parted = sorted(first for (first, second), lead in votes.items() if first == second and lead < 0)
    both = [cluster for cluster in parted if cluster in {*merges, *merges.values()}]
    if both:
        raise ValueError(
            f"feedback: {feedback.file}: its pairs say that cluster {both[0]} is two, and that it is one with another; "
            "leave out the pairs of one or the other, and give them in a second run"
        )
    splits = {cluster: _seeded(feedback.file, said.latent, within[cluster]) for cluster in parted}
    return _Plan(merges, splits, {})


def _joined(
    file: Path, votes: Mapping[tuple[int, int], int], joined: Iterable[tuple[int, int]], sizes: np.ndarray
) -> dict[int, int]:
    """The cluster that each goes into, where clusters hang together by votes."""
    links = sparse.lil_matrix((len(sizes), len(sizes)), dtype=np.int8)
    for first, second in joined:
        links[first, second] = 1
    _, group = connected_components(links.tocsr(), directed=False)
    apart = [clusters for clusters, lead in votes.items() if clusters[0] != clusters[1] and lead < 0]
    against = [(first, second) for first, second in apart if group[first] == group[second]]
    if against:
        first, second = against[0]
        raise ValueError(
            f"feedback: {file}: its pairs join clusters {first} and {second} through others, but the pairs between "
            "these two say that they are not the same; leave out the pairs of one or the other"
        )
    merges: dict[int, int] = {}
    for members in (np.flatnonzero(group == one) for one in np.unique(group)):
        target = int(members[sizes[members].argmax()])
        merges |= {int(cluster): target for cluster in members if cluster != target}
    return merges


def _seeded(file: Path, latent: np.ndarray, pairs: Sequence[Pair]) -> Callable[[np.ndarray], np.ndarray]:
    """Two parts by k-means from the means of the rows that pairs tell apart."""
    sides = [[latent[pairs[0].row_a]], [latent[pairs[0].row_b]]]
    for pair in pairs[1:]:
        rows = latent[[pair.row_a, pair.row_b]]
        means = np.stack([np.mean(side, axis=0) for side in sides])
        as_said, crossed = (np.square(rows - ends).sum() for ends in (means, means[::-1]))
        for side, row in zip(sides, rows if as_said <= crossed else rows[::-1], strict=True):
            side.append(row)
    seeds = np.stack([np.mean(side, axis=0) for side in sides])

    def find(rows: np.ndarray) -> np.ndarray:
        if len(np.unique(rows, axis=0)) < 2:
            what = f"row {pairs[0].row_b} cannot be told from row {pairs[0].row_a}: all rows of their cluster are alike"
            raise _wrong(file, pairs[0].line, "row_b", what)
        return KMeans(2, init=seeds, n_init=1).fit(rows).cluster_centers_

    return find


def _report(feedback: Feedback, step: Step, plan: _Plan, said: Described) -> None:
    """Say in the log what was done, and how many pairs it meets."""
    done = [f"cluster {cluster} is part of {target}" for cluster, target in sorted(plan.merges.items())]
    done += [f"cluster {cluster} is now {', '.join(map(str, parts))}" for cluster, parts in sorted(step.parts.items())]
    logger.info("feedback: %s", "; ".join(done) or "the rows keep their clusters")
    if feedback.pairs:
        clusters = step.apply(said).assignments
        met = sum((clusters[pair.row_a] == clusters[pair.row_b]) == bool(pair.same) for pair in feedback.pairs)
        logger.info("feedback: %d of %d pairs are met", met, len(feedback.pairs))
