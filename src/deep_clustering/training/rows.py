"""Rows on the device and shuffled index batches: no loader processes, no copies of a data set that fits."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from deep_clustering.training.described import Described
from deep_clustering.training.precision import full_single_precision
from deep_clustering.training.scratch import room

# A data set may take this share of the free device memory; the rest is for the network and its gradients.
_MEMORY_SHARE = 0.5
DESCRIBED_ROWS = 2048
"""Rows at a time that are described; what is said of so many is not copied."""
# Rows at a time that become bytes, and of a memory map that go to a device.
_PACKED_ROWS, _MAPPED_ROWS = 4096, 4096
# The byte of the value 1.
_WHITE = 255.0


def resolve_device(name: str) -> torch.device:
    """Device for a name.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else CPU), or any name torch knows.

    Returns:
        The device.

    Raises:
        ValueError: if the device is unknown or absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: expected 'auto', 'cpu' or a device of this machine, got '{name}' ({reason})"
        ) from error
    return device


@dataclass(frozen=True)
class Batch:
    """Which rows are in a batch, said twice so that nothing waits for the device."""

    index: Tensor
    """Their indices on the device, for what is kept there of each row; shape (n,), int64."""
    place: Tensor
    """The same where the rows are, for `Rows` and `View.pair`."""


class Rows:
    """All rows of a data set, on the device if they fit, else left where they are.

    A CSR matrix stays sparse, and a memory map stays on disk unless a graphics processor has room for it: their rows
    become dense batch by batch, and what is read in order is read piece by piece. Images whose
    values are k / 255 are kept as bytes on a graphics processor, a quarter of the memory, and are the same numbers
    again in a batch.
    """

    def __init__(
        self, features: np.ndarray | sparse.csr_matrix, device: torch.device, weights: np.ndarray | None = None
    ) -> None:
        """Place the rows.

        Args:
            features: Rows, shape (n_samples, ...), float; vectors may be CSR.
            device: Where batches are wanted.
            weights: How much each row counts, shape (n_samples,), above 0; None: all alike.
        """
        self.device = device
        self.ends = None if weights is None else _ends(weights, device)
        self.n_samples = features.shape[0]
        self._array: np.ndarray | sparse.csr_matrix | None = None
        self._tensor: Tensor | None = None
        self._white: Tensor | None = None  # what bytes are divided by
        if _stays(features, device):
            self._array = features
        else:
            packed = _as_bytes(features, device) if _keeps_bytes(device) and features.ndim == 4 else None
            self._tensor = _on_device(features, device) if packed is None else packed
            self._white = None if packed is None else torch.full((), _WHITE, device=device)

    def __len__(self) -> int:
        return self.n_samples

    @property
    def place(self) -> torch.device:
        """Where indices find the rows without a wait: the device, or the host for rows that stay there."""
        return self.device if self._array is None else torch.device("cpu")

    def __getitem__(self, index: Tensor) -> Tensor:
        """Rows of an index batch.

        Args:
            index: Shape (n,), int64; on another device than `place` it takes a wait to bring it there.

        Returns:
            The rows, shape (n, ...), float32 on the device.
        """
        if self._tensor is not None:
            found = self._tensor[index]
            return found if self._white is None else found.float() / self._white
        assert self._array is not None
        return self._bring(self._array[index.to(self.place).numpy()])

    def _bring(self, array: np.ndarray | sparse.csr_matrix) -> Tensor:
        """Rows of the host, dense on the device."""
        dense = array if isinstance(array, np.ndarray) else array.toarray()
        if isinstance(dense, np.memmap):
            dense = np.array(dense)  # a piece of the map, which nobody may write to
        batch = torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32))
        if self.device.type == "cuda":
            batch = batch.pin_memory()  # CUDA copies from other memory only when all before it is done
        return batch.to(self.device, non_blocking=True)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch of shuffled batches, see `index_batches`.

        Rows on the host get the order of the whole epoch at once: the one wait for the device in it.

        Args:
            size: Rows in a batch.
            generator: Source of the shuffle, on the device.

        Yields:
            Batches of min(size, n_samples) rows.
        """
        indices = list(index_batches(self.n_samples, size, generator, self.ends))
        far = self.place != self.device
        places = torch.cat(indices).to(self.place).split(len(indices[0])) if far else indices
        yield from map(Batch, indices, places)

    def in_proportion(self, of_rows: Tensor) -> Tensor:
        """As many values as rows, shape (n_samples, ...): each as often as the weight of its row says, to one."""
        return of_rows if self.ends is None else of_rows[_draw(self.ends, torch.full((1,), 0.5, device=self.device))]

    def times(self) -> Tensor | None:
        """How often each row is among those of `in_proportion`, shape (n_samples,), int64; None: all of them once."""
        if self.ends is None:
            return None
        drawn = _draw(self.ends, torch.full((1,), 0.5, device=self.device))
        return torch.bincount(drawn, minlength=self.n_samples)

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All rows in order, in pieces of at most `size` rows."""
        for start in range(0, self.n_samples, size):
            stop = min(start + size, self.n_samples)
            if isinstance(self._array, np.memmap):
                yield self._bring(self._array[start:stop])
            else:
                yield self[torch.arange(start, stop, device=self.place)]


def _on_device(features: np.ndarray, device: torch.device) -> Tensor:
    if isinstance(features, np.memmap):
        rows = torch.empty(features.shape, dtype=torch.float32, device=device)
        for start in range(0, len(features), _MAPPED_ROWS):
            # A piece at a time, which main memory has room for; a copy, since nobody may write to the map.
            rows[start : start + _MAPPED_ROWS] = torch.from_numpy(np.array(features[start : start + _MAPPED_ROWS]))
        return rows
    backwards = any(stride < 0 for stride in features.strides)  # which torch does not read
    return torch.tensor(features.copy() if backwards else features, dtype=torch.float32, device=device)


def _keeps_bytes(device: torch.device) -> bool:
    return device.type == "cuda"  # main memory has room, and a processor would convert each batch


def _as_bytes(features: np.ndarray, device: torch.device) -> Tensor | None:
    """Images in bytes k, on the device, if all of their values are k / 255; else None."""
    white = torch.full((), _WHITE, device=device)
    packed = torch.empty(features.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(features), _PACKED_ROWS):
        part = _on_device(features[start : start + _PACKED_ROWS], device)
        levels = (part * white).round().clamp(0, _WHITE)
        if not torch.equal(levels / white, part):
            return None
        packed[start : start + len(part)] = levels.to(torch.uint8)
    return packed


def _stays(features: np.ndarray | sparse.csr_matrix, device: torch.device) -> bool:
    """Whether rows stay on the host or the disk."""
    is_on_disk = isinstance(features, np.memmap) and device.type != "cuda"
    return sparse.issparse(features) or is_on_disk or not _fits(features, device)


def _fits(features: np.ndarray, device: torch.device) -> bool:
    if device.type != "cuda":
        return True  # an array that is no memory map is in main memory already
    free, _ = torch.cuda.mem_get_info(device)
    return bool(features.size * 4 <= _MEMORY_SHARE * free)


def _ends(weights: np.ndarray, device: torch.device) -> Tensor:
    """Where the share of each row ends, on the line from 0 to 1; shape (n_samples,)."""
    ends = np.cumsum(weights, dtype=np.float64)
    return torch.tensor(ends / ends[-1], dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


def _draw(ends: Tensor, offset: Tensor) -> Tensor:
    """A systematic sample of as many rows as there are, in proportion to their shares; `offset` in [0, 1), shape (1,).

    For an offset that is uniform, the expected number of each row is its share times n; it is met to less than one.
    """
    places = (torch.arange(len(ends), dtype=ends.dtype, device=ends.device) + offset) / len(ends)
    return torch.searchsorted(ends, places, right=True).clamp_max(len(ends) - 1)


def index_batches(
    n_samples: int, batch_size: int, generator: torch.Generator, ends: Tensor | None = None
) -> Iterator[Tensor]:
    """One epoch of shuffled index batches of one size, so that shapes stay static.

    The remainder of an epoch is left out; the next shuffle brings other rows to it. Fewer rows than a batch make one
    batch of all rows.

    Args:
        n_samples: Number of rows.
        batch_size: Rows in a batch.
        generator: Source of the shuffle, on the device of the indices.
        ends: Where the share of each row ends on the line from 0 to 1, shape (n_samples,): an epoch is then a draw
            with replacement in proportion to the shares; None: each row once.

    Yields:
        Indices, shape (min(batch_size, n_samples),), int64.
    """
    order = torch.randperm(n_samples, generator=generator, device=generator.device)
    if ends is not None:
        order = _draw(ends, torch.rand(1, generator=generator, device=generator.device))[order]
    size = min(batch_size, n_samples)
    for start in range(0, n_samples - size + 1, size):
        yield order[start : start + size]


def n_batches(n_samples: int, batch_size: int) -> int:
    """Number of batches that `index_batches` yields."""
    return max(1, n_samples // batch_size)


@torch.inference_mode()
def apply_in_chunks(function: Callable[[Tensor], Tensor], rows: Rows, size: int = 2048) -> Tensor:
    """Apply a row-wise function to all rows without gradients.

    Args:
        function: Maps (batch, ...) to (batch, k).
        rows: The rows.
        size: Rows at a time.

    Returns:
        The results in order, shape (n_samples, k), on the device.
    """
    with full_single_precision(rows.device):
        return joined((function(chunk) for chunk in rows.chunks(size)), len(rows))


def joined(parts: Iterable[Tensor], n_rows: int) -> Tensor:
    """Parts of all rows put together, each let go when its successor comes.

    Small parts that are kept until the end lie between large ones that are not, and the memory of these stays lost:
    ten times the result, where a network's hidden layers are much wider than it.

    Args:
        parts: In order, shape (n_part, ...), at least one.
        n_rows: Rows of all parts together.

    Returns:
        Shape (n_rows, ...).
    """
    whole, start = torch.empty(0), 0
    for part in parts:
        if not start:
            whole = part.new_empty(n_rows, *part.shape[1:])
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


@torch.inference_mode()
def describe_in_chunks(describe: Callable[[Tensor], tuple[Tensor, ...]], rows: Rows) -> Described:
    """Describe rows piece by piece, so that neither a memory map nor what is said of it is on the device whole.

    Args:
        describe: Gives assignments, responsibilities, latent, log density and log responsibilities of a piece, the
            last up to a constant of each row.
        rows: The rows.

    Returns:
        What is said of all of them, in order.
    """
    parts: list[np.ndarray] = []
    start = 0
    for chunk in rows.chunks(DESCRIBED_ROWS):
        with full_single_precision(rows.device):  # as in the last look of a training
            *told, log_joint = (part.cpu() for part in describe(chunk))
        # In double precision, which not every device has: it becomes so on the host.
        found = [part.numpy() for part in (*told, torch.log_softmax(log_joint.double(), dim=1))]
        if len(chunk) == len(rows):
            return Described(*map(np.ascontiguousarray, found))
        if not parts:
            parts = [room((len(rows), *part.shape[1:]), part.dtype) for part in found]
        for whole, part in zip(parts, found, strict=True):
            whole[start : start + len(chunk)] = part
        start += len(chunk)
    return Described(*parts)
