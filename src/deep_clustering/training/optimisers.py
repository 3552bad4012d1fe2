"""Optimisers whose steps a CUDA graph can hold: all that changes from step to step is on the device."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def make_optimiser(
    kind: type[torch.optim.Optimizer],
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    device: torch.device,
    **options: Any,  # noqa: ANN401
) -> torch.optim.Optimizer:
    """An optimiser for parameters on a device.

    On CUDA the kernels are the fused ones, Adam counts its steps there, and the learning rate is a tensor there: a
    schedule changes a value that a captured step reads, not a number that was written into it.

    Args:
        kind: SGD, Adam or AdamW.
        parameters: What it moves.
        learning_rate: The rate, or where a schedule starts from.
        device: Where the parameters are.
        options: Further arguments of that kind.

    Returns:
        The optimiser.
    """
    if device.type != "cuda":
        return kind(parameters, lr=learning_rate, **options)  # type: ignore[call-arg]
    if kind is not torch.optim.SGD:  # which counts no steps
        options["capturable"] = True
    return kind(parameters, lr=torch.tensor(learning_rate, device=device), fused=True, **options)  # type: ignore[call-arg]
