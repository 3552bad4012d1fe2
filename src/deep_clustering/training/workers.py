"""One training by several processes: each passes its share of every batch through the networks.

What is normalised over a batch is normalised over all of it: outputs are gathered, every worker finds the loss of the
whole batch, and the gradients of the shares are summed. So n workers with B / n rows each take the steps of one with B,
up to rounding. All else, as starts and looks at all rows, each worker does itself, with the same numbers; the first one
alone writes and speaks.

An exchange takes its time whatever its size, so a step has few: one for the outputs, one for all gradients, and two for
each batch normalisation, whose moments the next layer waits for on either way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training.checkpoints import Checkpoints

# What the first worker finds may be the end of a training; if it dies, the others learn of it at once all the same.
_PATIENCE = timedelta(days=14)

Found = TypeVar("Found")


@dataclass(frozen=True)
class Workers:
    """Who trains together, as one of them sees it."""

    rank: int
    """Its number, from 0, which leads."""
    n: int
    """How many there are."""

    def share(self, of_batch: Tensor) -> Tensor:
        """The rows of a batch that are its own.

        Args:
            of_batch: The same with every worker, shape (n, ...); n is a multiple of the number of workers.

        Returns:
            Shape (n / workers, ...); what flows back is the gradient of the mean of all workers' losses.
        """
        return of_batch if self.n == 1 else _Share.apply(of_batch, self)

    def gather(self, n_views: int, *outputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs for the views of all rows of a batch, in one exchange.

        Args:
            n_views: Views of a row.
            *outputs: Each of its own rows, those of a view behind one another, shape (n_views b, d).

        Returns:
            Each in the same order, shape (n_views B, d); what flows back to its own is the gradient of the loss of all.
        """
        if self.n == 1:
            return outputs
        of_all = _Gather.apply(torch.cat(outputs, dim=1).unflatten(0, (n_views, -1)), self)
        in_order = of_all.transpose(0, 1).flatten(0, 2)
        return in_order.split([part.shape[1] for part in outputs], dim=1)

    def sum_gradients(self, parameters: Iterable[nn.Parameter], *means: Tensor) -> list[Tensor]:
        """Make of the gradients of its share those of the batch, in one exchange.

        Args:
            parameters: Those without a gradient are passed over.
            *means: Scalars that are means over its share, or the same with every worker.

        Returns:
            Those scalars as means over the batch, detached.
        """
        if self.n == 1:
            return [mean.detach() for mean in means]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        own = [*gradients, *(mean.detach() / self.n for mean in means)]
        together = torch.cat([tensor.flatten() for tensor in own])
        distributed.all_reduce(together)
        summed = together.split([tensor.numel() for tensor in own])
        for gradient, of_batch in zip(gradients, summed, strict=False):
            gradient.copy_(of_batch.view_as(gradient))
        return [mean.squeeze() for mean in summed[len(gradients) :]]


_ALONE = Workers(0, 1)
_CURRENT: ContextVar[Workers] = ContextVar("workers", default=_ALONE)


def current() -> Workers:
    """Who trains together here; one process alone, where nobody said otherwise."""
    return _CURRENT.get()


@contextmanager
def joined(rank: int, n: int) -> Iterator[None]:
    """Train as one of several that have found each other."""
    token = _CURRENT.set(Workers(rank, n))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def alone() -> Iterator[None]:
    """What every worker does for itself, with the same numbers."""
    with joined(0, 1):
        yield


def of_first(find: Callable[[], Found]) -> Found:
    """What the first worker finds, for all, where each would find another; the others wait, however long it takes.

    Args:
        find: Is called by the first worker, as one that trains alone.

    Returns:
        What it gave: plain values and arrays.

    Raises:
        ValueError, FloatingPointError: with every worker, if the first one's call raised it.
    """
    if current().n == 1:
        return find()
    said: list[Any] = [None]
    # Of its own, as an exchange of the training has another limit; made before anybody has to wait.
    group = distributed.new_group(timeout=_PATIENCE)
    if not current().rank:
        with alone():
            try:
                said = [(find(), None)]
            except (ValueError, FloatingPointError) as error:
                said = [(None, error)]
    distributed.broadcast_object_list(said, group=group)  # type: ignore[arg-type]  # all are members
    distributed.destroy_process_group(group)
    found, failure = said[0]
    if failure is not None:
        raise failure
    return found


@contextmanager
def joined_as(rank: int, n: int, store: str) -> Iterator[None]:
    """Train as one of several.

    Args:
        rank: Which one.
        n: How many there are.
        store: File by which they find each other; it does not exist yet.
    """
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=n)
    try:
        with joined(rank, n):
            yield
    finally:
        distributed.destroy_process_group()


def _of_all(own: Tensor, workers: Workers) -> Tensor:
    """Tensors of all workers one behind the other, shape (workers, ...)."""
    own = own.contiguous()
    parts = [torch.empty_like(own) for _ in range(workers.n)]
    distributed.all_gather(parts, own)
    return torch.stack(parts)


class _Gather(torch.autograd.Function):
    """See `_of_all`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, workers: Workers) -> Tensor:  # noqa: ANN401 - torch's
        ctx.rank = workers.rank
        return _of_all(own, workers)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        # Every worker has the loss of the whole batch: nothing is to be added.
        return gradient[ctx.rank], None


class _Share(torch.autograd.Function):
    """A worker's own rows of what all have."""

    @staticmethod
    def forward(ctx: Any, of_batch: Tensor, workers: Workers) -> Tensor:  # noqa: ANN401
        ctx.workers = workers
        return of_batch.chunk(workers.n)[workers.rank]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return _of_all(gradient, ctx.workers).flatten(0, 1) / ctx.workers.n, None


class _Normalise(torch.autograd.Function):
    """Batch normalisation by mean and variance of the rows of all workers: an exchange on either way.

    Looks at all values cost more than what is reckoned with them, so both ways go over them as seldom as torch's own.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        epsilon: float,
        workers: Workers,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised rows (n, d, ...), mean and variance (d,) of all rows."""
        # What torch's own norm sees, in a fiftieth of the time of `torch.var_mean`.
        mean, variance = torch.batch_norm_update_stats(rows, None, None, 0.0)
        means, variances = _of_all(torch.stack([mean, variance]), workers).unbind(dim=1)
        mean = means.mean(dim=0)
        # Moments about a worker's own mean: squares of large numbers would leave nothing of a small variance.
        variance = (variances + (means - mean).square()).mean(dim=0)
        ctx.epsilon, ctx.workers = epsilon, workers
        ctx.save_for_backward(rows, weight, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(rows, mean, variance, weight, bias, training=False, eps=epsilon), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN401
        rows, weight, mean, variance = ctx.saved_tensors
        # As if mean and variance were given; what flows through them is taken off behind the exchange.
        of_rows, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, rows, weight, mean, variance, None, None, False, ctx.epsilon, [True, True, True]
        )
        of_all = torch.stack([of_bias, of_weight])
        distributed.all_reduce(of_all)
        scale = torch.rsqrt(variance + ctx.epsilon)
        along, across = of_all * weight * scale * (mean.numel() / (rows.numel() * ctx.workers.n))
        of_rows -= F.batch_norm(rows, mean, variance, across, along, training=False, eps=ctx.epsilon)
        return of_rows, of_weight, of_bias, None, None


class _SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the moments of the rows of all workers."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise, in training by the batch."""
        workers = current()
        if not self.training or workers.n == 1:
            return super().forward(rows)
        normalised, mean, variance = _Normalise.apply(rows.float(), self.weight, self.bias, self.eps, workers)
        count = rows.numel() // rows.shape[1] * workers.n
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None  # as every network here has it
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return normalised


def share_norms(networks: Mapping[str, nn.Module]) -> None:
    """Let the batch normalisations of networks see the rows of all workers; their parameters stay what they are."""
    if current().n == 1:
        return
    for network in networks.values():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.__class__ = _SharedNorm


class CommonCheckpoints(Checkpoints):
    """Checkpoints that the first worker reads and writes, and all begin from."""

    def begin(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same state for all."""
        state = [None if current().rank else super().begin(identity)]
        if current().n > 1:
            distributed.broadcast_object_list(state)
        return state[0]

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """As the first worker has it."""
        if not current().rank:
            super().save(epoch, state)

    def clear(self) -> None:
        """By the first worker."""
        if not current().rank:
            super().clear()
