"""Names of clusters: the terms that set one apart, or the sample nearest to its centre."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from scipy import sparse

from deep_clustering.reporting.columns import column_means, is_named_table, strongest
from deep_clustering.reporting.terms import describe_clusters

NAME_TERMS = 3

# Terms and columns that a name may grow by until it is the only one of its kind.
_MOST_TERMS, _MOST_COLUMNS = 10, 5
# Rows of a latent that are in memory at once.
_GATHERED_ROWS = 2**15
# Columns of a name, from how many deviations on the mean of a cluster stands out, and from which share of the most.
_NAME_COLUMNS, _STANDS_OUT, _BESIDE = 2, 0.25, 0.5


def name_clusters(
    assignments: np.ndarray,
    latent: np.ndarray,
    *,
    n_clusters: int,
    ids: Sequence[str],
    samples: np.ndarray | sparse.csr_matrix,
    terms: Sequence[str] = (),
    columns: Sequence[str] = (),
    retired: Sequence[int] = (),
) -> list[str]:
    """A name for each cluster, each another one.

    Of documents the terms that set the cluster apart, of tables the columns that do, else the file, id or number of the
    sample nearest to the mean of its members.

    Args:
        assignments: Cluster of each sample, shape (n_samples,).
        latent: Where distances are measured, shape (n_samples, latent_dim).
        n_clusters: Number of clusters, empty ones included.
        ids: File, id or number of each sample.
        samples: The samples, read only for their terms and columns.
        terms: Term of each column of documents; empty for other data.
        columns: Name of each column of a table; empty for other data.
        retired: Numbers that no cluster has any more.

    Returns:
        One name each; of an empty cluster "empty" and its number, of one that is gone "retired" and its number.

    Raises:
        ValueError: if assignments, latent and ids do not describe the same samples.
    """
    if not len(assignments) == len(latent) == len(ids):
        raise ValueError(
            f"name_clusters: got {len(assignments)} assignments, {len(latent)} latent rows and {len(ids)} ids"
        )
    said = [""] * n_clusters
    if len(terms) and sparse.issparse(samples):
        said = describe_clusters(samples, assignments, n_clusters, terms, _MOST_TERMS)
    distinctive = _distinctive_columns(samples, assignments, n_clusters, columns)
    candidates = []
    for cluster, (text, row) in enumerate(zip(said, nearest_to_centre(assignments, latent, n_clusters), strict=True)):
        if row < 0:
            candidates.append([f"{'retired' if cluster in retired else 'empty'} {cluster}"])
        elif text:
            candidates.append(_of_terms(text.split(", ")))
        else:
            candidates.append([*distinctive[cluster], *_of_sample(ids[row], row)])
    return distinct(candidates)


def with_given(names: Sequence[str], given: Sequence[str]) -> list[str]:
    """Names of clusters, of which a person gave some.

    Args:
        names: A name for each cluster.
        given: What a person calls each; empty: nothing, and so for all if there are none.

    Returns:
        The given names as they are, and the others, with a number where one was given to another cluster.
    """
    if not len(given):
        return list(names)
    order = sorted(range(len(names)), key=lambda cluster: not given[cluster])
    chosen = dict(zip(order, distinct([given[cluster] or names[cluster]] for cluster in order), strict=True))
    return [chosen[cluster] for cluster in range(len(names))]


def nearest_to_centre(assignments: np.ndarray, latent: np.ndarray, n_clusters: int) -> list[int]:
    """The member of each cluster that is nearest to the mean of its members; the first of several.

    Args:
        assignments: Cluster of each sample, shape (n_samples,).
        latent: Shape (n_samples, latent_dim).
        n_clusters: Number of clusters.

    Returns:
        A row for each cluster, -1 for an empty one.
    """
    rows = []
    for cluster in range(n_clusters):
        members = np.flatnonzero(assignments == cluster)
        # Some members at a time: all of a large cluster, in double precision, would be several gigabytes.
        parts = [members[start : start + _GATHERED_ROWS] for start in range(0, len(members), _GATHERED_ROWS)]
        total = sum(latent[part].astype(np.float64).sum(axis=0) for part in parts)
        distances = [((latent[part].astype(np.float64) - total / len(members)) ** 2).sum(axis=1) for part in parts]
        rows.append(int(members[np.concatenate(distances).argmin()]) if parts else -1)
    return rows


def distinct(candidates: Iterable[Sequence[str]]) -> list[str]:
    """One of several names for each, so that no two are the same but for case.

    Args:
        candidates: Names for each, the best first, at least one.

    Returns:
        The first that is not taken yet, or else the last with a number.
    """
    taken: set[str] = set()
    names = []
    for options in candidates:
        numbered = (f"{options[-1]} ({number})" for number in range(2, len(taken) + 3))
        name = next(one for one in (*options, *numbered) if one.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _distinctive_columns(
    samples: np.ndarray | sparse.csr_matrix, assignments: np.ndarray, n_clusters: int, columns: Sequence[str]
) -> list[list[str]]:
    """Names for each cluster by its mean's columns that are furthest from the mean of all rows, in deviations.

    Two columns, then more until a name is the only one of its kind; none where nothing stands out, or without a
    table.
    """
    if not is_named_table(samples, columns):
        return [[] for _ in range(n_clusters)]
    found = []
    for shifts in column_means(samples, assignments, n_clusters).shifts:
        least = max(_STANDS_OUT, _BESIDE * np.abs(shifts).max(initial=0))
        order = [place for place in strongest(shifts) if abs(shifts[place]) >= least]
        said = [f"{'high' if shifts[place] > 0 else 'low'} {columns[place]}" for place in order[:_MOST_COLUMNS]]
        found.append([", ".join(said[:n]) for n in range(min(_NAME_COLUMNS, len(said)), len(said) + 1) if n])
    return found


def _of_terms(terms: Sequence[str]) -> list[str]:
    """The first few terms, then more of them; what is a part of one before it says nothing new."""
    chosen: list[str] = []
    for term in (" ".join(term.split()) for term in terms):
        if term and not any(term in other or other in term for other in chosen):
            chosen.append(term)
    least = min(NAME_TERMS, len(chosen))
    return [", ".join(chosen[:n]) for n in range(least, len(chosen) + 1)] if chosen else list(terms[:1])


def _of_sample(name: str, row: int) -> list[str]:
    """A file without its ending, then with it; of a number, whether it is the row's or another id."""
    if re.fullmatch(r"\d+", name):
        return [f"row {name}" if name == str(row) else f"id {name}"]
    path = PurePosixPath(name)
    return [str(path.with_suffix("")), name] if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", path.suffix) else [name]
