"""What was changed of the clusters of a fitted method without training: joined, parted, numbered and named anew.

A number never means two things: that of a cluster which went into another stays empty, and parts and new clusters get
numbers that none has had.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_argmin

from deep_clustering.training.described import Described, Describing

# Names of the arrays of parted clusters: corrections/<step>/<cluster>.
_PREFIX = "corrections"


class Step(NamedTuple):
    """One change of all clusters at once."""

    numbers: Sequence[int]
    """The number that each former cluster gets, the same one for clusters that are joined."""
    parts: Mapping[int, Sequence[int]]
    """The numbers of the parts of a former cluster, in the order of `centroids`."""
    centroids: Mapping[int, np.ndarray]
    """Centres of the parts in the latent, shape (n_parts, latent_dim), float32."""
    n_numbers: int
    """Numbers that clusters have had behind it, from 0: columns of the responsibilities."""

    def there(self, before: Sequence[int]) -> list[int]:
        """Numbers that have a cluster behind it, of those that had one before it."""
        of_whole = {self.numbers[number] for number in before if number not in self.parts}
        return sorted(of_whole.union(*(self.parts[number] for number in before if number in self.parts)))

    def apply(self, said: Described) -> Described:
        """What is said of rows, under the new numbers.

        Responsibilities are summed over joined clusters, and a row goes with the joined ones where that makes them the
        likeliest. A row of a parted cluster, with its responsibility, goes to the part of the nearest centre.
        """
        every = np.arange(len(said.assignments))
        logs = said.log_responsibilities
        log_sums = None if logs is None else np.full((len(every), self.n_numbers), -np.inf)
        assignments = np.asarray(self.numbers, dtype=np.int64)[said.assignments]
        responsibilities = np.zeros((len(every), self.n_numbers), dtype=said.responsibilities.dtype)
        for cluster, number in enumerate(self.numbers):
            of_rows: np.ndarray | int = number
            if cluster in self.parts and len(every):
                nearest = pairwise_distances_argmin(said.latent, self.centroids[cluster])
                of_rows = np.asarray(self.parts[cluster], dtype=np.int64)[nearest]
                assignments = np.where(said.assignments == cluster, of_rows, assignments)
            responsibilities[every, of_rows] += said.responsibilities[:, cluster]
            if logs is not None and log_sums is not None:
                log_sums[every, of_rows] = np.logaddexp(log_sums[every, of_rows], logs[:, cluster])
        if len(set(self.numbers)) < len(self.numbers):
            best = responsibilities.argmax(axis=1)
            is_likelier = responsibilities[every, best] > responsibilities[every, assignments]
            assignments = np.where(is_likelier, best, assignments)
        return said._replace(assignments=assignments, responsibilities=responsibilities, log_responsibilities=log_sums)


class Corrected(Describing):
    """A fitted method with what was changed of its clusters."""

    def __init__(self, method: Any, steps: Sequence[Step], names: Mapping[int, str]) -> None:  # noqa: ANN401
        """Put changes behind a method.

        Args:
            method: The fitted method, a `Clusterer`.
            steps: The changes, in order.
            names: Names of clusters, by their number behind all changes.
        """
        self.method, self.steps, self.names = method, tuple(steps), dict(names)

    def describe(self, features: np.ndarray) -> Described:
        """What the method says of each row, under the numbers behind all changes."""
        said = self.method.describe(features)
        for step in self.steps:
            said = step.apply(said)
        return said

    def there(self, width: int) -> list[int]:
        """Numbers that have a cluster; `width` is the number of columns of its responsibilities."""
        numbers = list(range(len(self.steps[0].numbers) if self.steps else width))
        for step in self.steps:
            numbers = step.there(numbers)
        return numbers

    def then(self, step: Step, names: Mapping[int, str]) -> "Corrected":
        """The same with one more change, and the names that hold behind it."""
        return Corrected(self.method, (*self.steps, step), names)

    def arrays(self) -> dict[str, np.ndarray]:
        """Centres of parted clusters."""
        return {
            f"{_PREFIX}/{place}/{cluster}": centroids
            for place, step in enumerate(self.steps)
            for cluster, centroids in step.centroids.items()
        }

    def to_plain(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON values."""
        steps = [
            {
                "numbers": list(step.numbers),
                "parts": {str(cluster): list(numbers) for cluster, numbers in step.parts.items()},
                "n_numbers": step.n_numbers,
            }
            for step in self.steps
        ]
        return {"steps": steps, "names": {str(number): name for number, name in self.names.items()}}


def corrected_from(
    method: Any,  # noqa: ANN401 - a `Clusterer`
    plain: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> Corrected:
    """What `to_plain` and `arrays` were of.

    Args:
        method: The fitted method.
        plain: What `to_plain` gave.
        arrays: What `arrays` gave, perhaps among others.

    Returns:
        The method with its changes.
    """
    steps = []
    for place, step in enumerate(plain["steps"]):
        parts = {int(cluster): numbers for cluster, numbers in step["parts"].items()}
        centroids = {cluster: arrays[f"{_PREFIX}/{place}/{cluster}"] for cluster in parts}
        steps.append(Step(step["numbers"], parts, centroids, step["n_numbers"]))
    return Corrected(method, steps, {int(number): name for number, name in plain["names"].items()})


def as_corrected(method: Any) -> Corrected:  # noqa: ANN401 - a `Clusterer`, or one that was changed before
    """A fitted method as one whose clusters may be changed."""
    return method if isinstance(method, Corrected) else Corrected(method, (), {})
