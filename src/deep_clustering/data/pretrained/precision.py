"""Half precision where it pays and does no harm."""

import logging

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

# bfloat16 has 8 significant bits: a channel whose mean is more than so many standard deviations from zero drowns in
# rounding before batch normalisation can take the mean away.
_MEAN_TO_DEVIATION = 64.0
_BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_Product = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class _FullPrecision(nn.Module):
    """A module left out of autocast."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, rows: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            return self.module(rows.float())


def protect_from_rounding(body: nn.Module) -> None:
    """Keep a network in full precision up to the last channel that bfloat16 would drown in rounding.

    The mean of such a channel is large and its deviation small, so its inputs must be exact, too. Well-behaved
    networks have no such channel and stay as they are.

    Args:
        body: The network with its weights, changed in place.
    """
    names = [name for name, module in body.named_modules() if isinstance(module, (*_BatchNorm, *_Product))]
    last = max((i for i, name in enumerate(names) if _is_fragile(body.get_submodule(name))), default=-1)
    protected = [name for name in names[: last + 1] if isinstance(body.get_submodule(name), _Product)]
    for name in protected:
        parent, _, child = name.rpartition(".")
        setattr(body.get_submodule(parent), child, _FullPrecision(body.get_submodule(name)))
    if protected:
        logger.info(
            "features: the first %d layers, up to %s, stay in fp32 (bf16 is unsafe)", len(protected), names[last]
        )


def _is_fragile(module: nn.Module) -> bool:
    if not isinstance(module, _BatchNorm) or module.running_mean is None or module.running_var is None:
        return False
    deviation = (module.running_var + module.eps).sqrt()
    return bool((module.running_mean.abs() / deviation).max() > _MEAN_TO_DEVIATION)
