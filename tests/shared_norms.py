"""Two workers that normalise their halves of a batch: a module of its own, as processes import it by name."""

from pathlib import Path

import torch
from torch import nn

from deep_clustering.training.workers import joined_as, share_norms

SHAPES = {"rows": (64, 5), "images": (64, 5, 4, 3)}


def norm_and_batch(kind):
    """A norm with weights of its own, rows whose halves differ, and a gradient of each value."""
    generator = torch.Generator().manual_seed(0)
    norm = {"rows": nn.BatchNorm1d, "images": nn.BatchNorm2d}[kind](5)
    nn.init.uniform_(norm.weight, 0.5, 2.0, generator=generator)
    nn.init.normal_(norm.bias, generator=generator)
    rows, gradient = torch.randn(2, *SHAPES[kind], generator=generator)
    rows[32:] = 3 * rows[32:] + 7
    if kind == "images":
        rows = rows.to(memory_format=torch.channels_last)
    return norm, rows, gradient


def passed(norm, rows, gradient):
    """What the norm makes of rows, and the gradients of rows, weights and biases."""
    rows = rows.clone().requires_grad_()
    normalised = norm(rows)
    (normalised * gradient).sum().backward()
    return normalised.detach(), rows.grad, norm.weight.grad, norm.bias.grad


def normalise(rank, folder, kind):
    """Note what a worker's half becomes, and the moments that its norm keeps."""
    norm, rows, gradient = norm_and_batch(kind)
    with joined_as(rank, 2, f"{folder}/store"):
        share_norms({"norm": norm})
        found = passed(norm, rows.chunk(2)[rank], gradient.chunk(2)[rank])
    torch.save([*found, norm.running_mean, norm.running_var], Path(folder, f"{rank}.pt"))
