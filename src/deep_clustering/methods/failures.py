"""What goes wrong with a training of DCAN, found in its views, its whitening and its curves."""

import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from deep_clustering.training.history import History

logger = logging.getLogger(__name__)

_CURVES = (
    "n_occupied",
    "view_information",
    "chance_information",
    "discriminator_accuracy_positive",
    "discriminator_accuracy_negative",
    "js_divergence",
)


def find_failure(columns: Mapping[str, list[float]], n_clusters: int, patience: int) -> str | None:
    """What has gone wrong with a training for some epochs, with advice.

    Args:
        columns: Values per epoch of "n_occupied", "view_information" and "chance_information", and of an adversarial
            loss also of "discriminator_accuracy_positive", "discriminator_accuracy_negative" and "js_divergence".
        n_clusters: Number of clusters wanted.
        patience: Epochs that something must last.

    Returns:
        A sentence, or None.
    """
    newest = {name: column[-patience:] for name, column in columns.items()}
    if len(newest["n_occupied"]) < patience:
        return None
    remedy = "try another seed or a start, more instance_noise, or switch whitening and cross_view on"
    if max(newest["n_occupied"]) < n_clusters:
        return f"collapse: only {newest['n_occupied'][-1]:.0f} of {n_clusters} clusters are occupied; {remedy}"
    pairs = list(zip(newest["view_information"], newest["chance_information"], strict=True))
    if all(information <= chance for information, chance in pairs):
        return (
            f"collapse: the clusters of two views of a row share {pairs[-1][0]:.3g} nats, no more than by chance "
            f"({pairs[-1][1]:.3g}); {remedy}"
        )
    judged = [newest.get(f"discriminator_accuracy_{side}", [0.0]) for side in ("positive", "negative")]
    if min(map(min, judged)) > 0.99 and min(newest["js_divergence"]) > 0.95 * math.log(2):
        return (
            f"the discriminator overpowers the encoder: accuracy {judged[0][-1]:.3f} on draws and {judged[1][-1]:.3f} "
            f"on latents, JS {newest['js_divergence'][-1]:.3f} of at most ln 2; raise instance_noise or lower "
            "discriminator_learning_rate"
        )
    return None


class Watch:
    """Looks on at a training; what it sees in a step stays on the device until the epoch ends."""

    def __init__(self, views: str, device: torch.device) -> None:
        """Begin to look on.

        Args:
            views: Kind of the views, for the messages.
            device: Where the training runs.
        """
        self._views = views
        self._correction = torch.zeros((), device=device)
        self._are_finite = torch.ones((), device=device, dtype=torch.bool)
        self._has_warned = False

    def see(self, views: Tensor, correction: Tensor) -> None:
        """Take in the views of a step, and the correction that the whitening needed."""
        torch.maximum(self._correction, correction, out=self._correction)  # in place, for replays of a step
        self._are_finite.logical_and_(torch.isfinite(views).all())

    def close_epoch(self, epoch: int) -> None:
        """Say what was amiss in an epoch.

        Raises:
            FloatingPointError: if views were not finite.
        """
        if not self._are_finite:
            raise FloatingPointError(
                f"dcan: the views hold NaN or infinity (epoch {epoch}); look at the options of views ({self._views}) "
                "and for extreme values in the rows"
            )
        correction = float(self._correction)
        if correction and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "dcan: the covariance of the codes was singular in epoch %d; %g of the mean variance was added to its "
                "diagonal, besides whitening_epsilon. Lower latent_dim, or raise batch_size or whitening_epsilon",
                epoch,
                correction,
            )
        self._correction.zero_()

    def has_failed(self, history: History, n_clusters: int, patience: int, held_epochs: int) -> bool:
        """Whether there is a failure behind the held epochs; the log is told in the first epoch in which there is."""
        columns = {name: history.column(name)[held_epochs:] for name in _CURVES if history.has_column(name)}
        failure = find_failure(columns, n_clusters, patience)
        before = {name: column[:-1] for name, column in columns.items()}
        if failure and not find_failure(before, n_clusters, patience):
            logger.warning("dcan: epoch %d: %s", history.n_epochs, failure)
        return failure is not None
