"""One training by several processes: each passes its share of every batch through the networks.

What is normalised over a batch is normalised over all of it: outputs are gathered, every worker finds the loss of the
whole batch, and the gradients of the shares are summed. So n workers with B / n rows each take the steps of one with B,
up to rounding. All else, as starts and looks at all rows, each worker does itself, with the same numbers; the first one
alone writes and speaks.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from deep_clustering.training.checkpoints import Checkpoints


@dataclass(frozen=True)
class Workers:
    """Who trains together, as one of them sees it."""

    rank: int
    """Its number, from 0, which leads."""
    n: int
    """How many there are."""

    def share(self, index: Tensor) -> Tensor:
        """The rows of a batch that are its own, shape (n / workers,)."""
        return index if self.n == 1 else index.chunk(self.n)[self.rank]

    def gather(self, outputs: Tensor, n_views: int) -> Tensor:
        """Outputs for the views of all rows of a batch.

        Args:
            outputs: Of its own rows, those of a view behind one another, shape (n_views b, d).
            n_views: Views of a row.

        Returns:
            In the same order, shape (n_views B, d); what flows back to its own is the gradient of the loss of all.
        """
        if self.n == 1:
            return outputs
        of_all = _Gather.apply(outputs.unflatten(0, (n_views, -1)), self)
        return of_all.transpose(0, 1).reshape(-1, *outputs.shape[1:])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make of the gradients of its share those of the batch."""
        if self.n == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(together)
        for gradient, summed in zip(
            gradients, together.split([gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(summed.view_as(gradient))

    def wait(self) -> None:
        """Until all are here."""
        if self.n > 1:
            distributed.barrier()


_ALONE = Workers(0, 1)
_CURRENT: ContextVar[Workers] = ContextVar("workers", default=_ALONE)


def current() -> Workers:
    """Who trains together here; one process alone, where nobody said otherwise."""
    return _CURRENT.get()


@contextmanager
def joined_as(rank: int, n: int, store: str) -> Iterator[None]:
    """Train as one of several.

    Args:
        rank: Which one.
        n: How many there are.
        store: File by which they find each other; it does not exist yet.
    """
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=n)
    token = _CURRENT.set(Workers(rank, n))
    try:
        yield
    finally:
        _CURRENT.reset(token)
        distributed.destroy_process_group()


class _Gather(torch.autograd.Function):
    """Tensors of all workers one behind the other, shape (workers, ...)."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, workers: Workers) -> Tensor:  # noqa: ANN401 - torch's
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(workers.n)]
        distributed.all_gather(parts, own)
        ctx.rank = workers.rank
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        # Every worker has the loss of the whole batch: nothing is to be added.
        return gradient[ctx.rank], None


class _Sum(torch.autograd.Function):
    """Sum of the tensors of all workers; what each makes of it flows back to all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ANN401
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class _SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the moments of the rows of all workers."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise, in training by the batch."""
        if not self.training:
            return super().forward(rows)
        rows = rows.float()
        axes = [axis for axis in range(rows.ndim) if axis != 1]
        shape = [1, -1, *[1] * (rows.ndim - 2)]
        count = rows.numel() // rows.shape[1] * current().n
        mean = _Sum.apply(rows.sum(dim=axes)) / count
        apart = rows - mean.view(shape)
        variance = _Sum.apply(apart.square().sum(dim=axes)) / count
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None  # as every network here has it
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return apart * scale.view(shape) + self.bias.view(shape)


def share_norms(networks: Mapping[str, nn.Module]) -> None:
    """Let the batch normalisations of networks see the rows of all workers; their parameters stay what they are."""
    if current().n == 1:
        return
    for network in networks.values():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.__class__ = _SharedNorm


class CommonCheckpoints(Checkpoints):
    """Checkpoints that all workers begin from and the first one writes."""

    def begin(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same state for all: nobody writes or removes one before all have read it."""
        if current().rank:
            current().wait()
        state = super().begin(identity)
        if not current().rank:
            current().wait()
        current().wait()
        return state

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """As the first worker has it."""
        if not current().rank:
            super().save(epoch, state)

    def clear(self) -> None:
        """By the first worker."""
        if not current().rank:
            super().clear()
