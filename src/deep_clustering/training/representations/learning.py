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

    def __call__(
        self, views: Tensor, small: Tensor | None, precision: str, n_views: int = 2
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Pass all views of a batch through the networks.

        Args:
            views: Of each row, first views, then second views, and so on, shape (n_views n, ...).
            small: Further views of each row, one draw behind the other, (s n, ...), perhaps of another size; or None.
            precision: fp32 or bf16, of the pass.
            n_views: Of each row in `views`.

        Returns:
            outputs: of the encoder, shape ((n_views + s) n, ...).
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
        n_all = n_views * len(outputs) // len(views)
        loss = self._representation.loss_of_views(projections, targets, n_all)
        return outputs, {"representation_loss": self._representation.share * loss}


def _joined(parts: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
