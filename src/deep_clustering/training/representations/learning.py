"""A loss of representation learning in a training: its networks, its pass, and its terms."""

import torch
from torch import Tensor, nn

from deep_clustering.training.averaging import Averaged
from deep_clustering.training.precision import autocast
from deep_clustering.training.representations.base import Representation


class WithProjector(nn.Module):
    """An encoder and a projector on the same trunk, in one pass; all of their layers stay those that were given."""

    def __init__(self, encoder: nn.Sequential, projector: nn.Module, target: Averaged | None) -> None:
        """The encoder ends in a layer of its own, which the projector stands beside; a target is of both or is None."""
        super().__init__()
        self.trunk, self.last, self.projector, self.target = encoder[:-1], encoder[-1], projector, target

    def forward(self, views: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the encoder, projections, and those of the target if there is one, each of shape (n, ...)."""
        latent = self.trunk(views)
        outputs = self.last(latent), self.projector(latent)
        # In the same pass, so that one compiled network is all of it.
        return outputs if self.target is None else (*outputs, self.target(views))


class Learning:
    """What stands beside an encoder while a representation is learned on its trunk; without a loss, nothing does."""

    def __init__(
        self, representation: Representation, encoder: nn.Sequential, n_latent: int, device: torch.device
    ) -> None:
        """New networks.

        Args:
            representation: The loss and its weight.
            encoder: Ends in a layer of its own behind the trunk.
            n_latent: Outputs of the trunk for a row.
            device: Where the encoder is.
        """
        self._representation = representation
        self.networks: dict[str, nn.Module] = {"encoder": encoder}
        self.network: nn.Module = encoder
        self._target: Averaged | None = None
        if not representation.share:
            return
        projector = self.networks["projector"] = representation.projector(n_latent).to(device)
        if representation.target_momentum:
            averaged = nn.Sequential(encoder[:-1], representation.averaged_part(projector))
            self._target = self.networks["target"] = Averaged(averaged, representation.target_momentum)
        self.network = WithProjector(encoder, projector, self._target)

    def __call__(self, views: Tensor, small: Tensor | None, precision: str) -> tuple[Tensor, dict[str, Tensor]]:
        """Pass all views of a batch through the networks.

        Args:
            views: Two of each row, first views, then second views, shape (2n, ...).
            small: Further views of each row, one draw behind the other, (s n, ...), perhaps of another size; or None.
            precision: fp32 or bf16, of the pass.

        Returns:
            outputs: of the encoder, shape ((2 + s) n, ...).
            terms: the weighted loss as `representation_loss`, a scalar; nothing without a loss.
        """
        parts = [views] if small is None else [views, small]
        with autocast(precision, views.device):
            if not self._representation.share:
                return _joined([self.network(part) for part in parts]), {}
            if self._target is not None:
                self._target.follow()
            of_parts = zip(*(self.network(part) for part in parts), strict=True)
            outputs, projections, *of_target = map(_joined, of_parts)
        targets = of_target[0] if of_target else None
        n_views = 2 * len(outputs) // len(views)
        loss = loss_of_views(self._representation, projections, targets, n_views)
        return outputs, {"representation_loss": self._representation.share * loss}


def loss_of_views(representation: Representation, projections: Tensor, targets: Tensor | None, n_views: int) -> Tensor:
    """Mean of a loss over the pairs of views of which one at least is among the first two.

    Args:
        representation: The loss of a pair.
        projections: Of all first views, then of all second views, and so on, shape (n_views n, d).
        targets: Of the same views, or None.
        n_views: Views of a row, at least 2.

    Returns:
        Scalar.
    """
    if n_views == 2:
        return representation.loss(projections, targets)
    of_view = projections.chunk(n_views)
    targets_of_view = None if targets is None else targets.chunk(n_views)
    losses = []
    for first in (0, 1):
        for second in range(first + 1, n_views):
            pair = torch.cat([of_view[first], of_view[second]])
            wanted = None if targets_of_view is None else torch.cat([targets_of_view[first], targets_of_view[second]])
            losses.append(representation.loss(pair, wanted))
    return torch.stack(losses).mean()


def _joined(parts: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
