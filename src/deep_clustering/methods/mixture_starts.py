"""What a training of NMM-EM starts from, deviations N12 and N22 of `neural_mixture`."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from deep_clustering.checks import count_distinct
from deep_clustering.methods.consensus import Consensus
from deep_clustering.methods.dac_start import DACStart
from deep_clustering.methods.partitions import check_neighbours, find_partitions
from deep_clustering.methods.starts import GivenStart, InTurn, NoStart, Overclustering, Start, fit_before
from deep_clustering.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)


def find_starts(
    model: Any,  # noqa: ANN401 - a NeuralMixture
    start: Start,
    features: np.ndarray,
    neighbours: np.ndarray | None,
    precision: str,
    checkpoints: Checkpoints | None,
) -> np.ndarray | None:
    """The partition that is held for the first epochs.

    Args:
        model: The mixture that is to be trained; copies of it are fitted first where the start needs them.
        start: The options of the start.
        features: The rows.
        neighbours: Nearest rows of each row, or None.
        precision: Of what is fitted first.
        checkpoints: Those of the fit that this is the start of, or None.

    Returns:
        Shape (n_samples, 1), or a column for each head; -1: the row is not held. None without a start.
    """
    if isinstance(start, NoStart):
        return None
    sizes = sorted(set(model.candidates))  # heads of one size share one partition
    if isinstance(start, Overclustering):
        n_components = start.n_components(max(sizes), min(model.batch_size, features.shape[0]))
        n_components = count_distinct(features, n_components)  # as many as there are different rows
        changes: dict[str, Any] = {"n_clusters": n_components, "precision": precision}
        several = replace(model, heads=1, auxiliary_clusters=0, **changes)
        many = fit_before(start, several, features, neighbours, checkpoints)
        # The Euclidean distance of square roots is Hellinger's between the rows' distributions over the components.
        points = np.sqrt(many.pair_responsibilities(features, neighbours))
        partitions = start.merge(points, sizes, model.seed)
    elif isinstance(start, Consensus):
        for other in start.other_starts():
            check_neighbours(other, neighbours)  # now, not when the first heads are fitted
        first: dict[str, Any] = {"heads": start.heads, "precision": precision}
        several = replace(model, auxiliary_clusters=0, **first)
        tried = fit_before(start, several, features, neighbours, checkpoints).history_
        candidates, scores = tried["candidate_assignments"], tried["candidate_scores"]
        partitions = start.find(features, neighbours, candidates, scores, sizes[0], model.heads, model.seed)
    elif isinstance(start, DACStart):
        columns = [start.find(model, size, features, neighbours, precision, checkpoints) for size in sizes]
        partitions = np.stack(columns, axis=1)
    elif isinstance(start, GivenStart):
        assert model.given_ is not None
        if start.renew and not start.n_renewed(model.epochs):
            logger.warning(
                "start.renew: %g of %d epochs is none, so nothing is renewed; raise epochs, or set renew to 0",
                start.renew,
                model.epochs,
            )
        partitions = model.given_.partition[:, None].copy()  # it may be renewed
    else:
        assert not isinstance(start, InTurn)  # each training has one of them
        partitions = find_partitions(start, features, neighbours, sizes, model.seed)
    if model.auxiliary_clusters:  # of which nothing is held
        of_candidates = np.broadcast_to(partitions, (len(partitions), len(model.candidates)))
        partitions = np.pad(of_candidates, ((0, 0), (0, 1)), constant_values=-1)
    return partitions
