"""The greatest log-likelihood of a pair mixture: equation (6) of `neural_mixture`; reports draw it, without torch."""

import math


def bound(n_clusters: int, noise: float) -> float:
    """Greatest mean log-likelihood of pairs, equation (6), in nats.

    Balanced, hard clusters that both views agree on have p(x, x') = (1 - e) K + e for every pair.
    Other shares have less as long as e is at most 1/2; with noise near one a single large cluster can have more, since
    whatever lies in it costs no more than noise does.

    Args:
        n_clusters: K.
        noise: e, the probability of a pair without a common cluster.

    Returns:
        log((1 - e) K + e), which is log K without noise.
    """
    return math.log((1 - noise) * n_clusters + noise)
