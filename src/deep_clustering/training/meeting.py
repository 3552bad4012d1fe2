"""Processes that train together, however they were started: they compare their versions, and fit what the first has."""

import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deep_clustering import __version__
from deep_clustering.training.checkpoints import fingerprint
from deep_clustering.training.parallel import mapped_file

if TYPE_CHECKING:
    from torch.distributed import Store

# Between looks for the next fit.
_LOOK_SECONDS = 0.2
_FIT, _END = "fit", "end"


def named(rank: int) -> str:
    """What a process is called in messages, and where it says its versions."""
    return f"worker {rank}"


def introduce(store: "Store", rank: int) -> None:
    """Say that a process is there, and its versions."""
    store.set(named(rank), json.dumps(versions()))


class Meeting:
    """The processes, as one of them sees them."""

    def __init__(self, store: "Store", rank: int, n: int) -> None:
        self._store, self._rank, self._n = store, rank, n
        self._n_calls = 0

    @classmethod
    def of(cls, store: "Store", rank: int, n: int) -> Self:
        """Join the others, who have been introduced or will be; raises ValueError if they have other versions."""
        from torch import distributed

        compare_versions([json.loads(store.get(named(one))) for one in range(n)])
        distributed.init_process_group(
            "gloo", store=distributed.PrefixStore("training", store), rank=rank, world_size=n
        )
        return cls(store, rank, n)

    def call(self) -> None:
        """Let the others take part in a fit."""
        self._say(_FIT)

    def end(self) -> None:
        """Let the others go."""
        from torch import distributed

        self._say(_END)
        distributed.destroy_process_group()

    def _say(self, word: str) -> None:
        self._store.set(f"call {self._n_calls}", word)
        self._n_calls += 1

    def is_called(self) -> bool:
        """Wait for the first process, however long it is at something else; whether it begins a fit or ends."""
        name = f"call {self._n_calls}"
        while not self._store.check([name]):
            time.sleep(_LOOK_SECONDS)
        self._n_calls += 1
        return self._store.get(name).decode() == _FIT

    def fit(self, task: tuple | None = None, arrays: tuple[np.ndarray | None, ...] = ()) -> Any:  # noqa: ANN401
        """One fit; the first process says of what: method, checkpoints, weights and further arguments."""
        from torch import distributed

        from deep_clustering.training.workers import joined

        said: list[Any] = [(task, [_described(array) for array in arrays])]
        distributed.broadcast_object_list(said)
        (model, checkpoints, weights, more), described = said[0]
        own = arrays or [None] * len(described)
        rows, neighbours = map(self._received, described, own)
        with joined(self._rank, self._n):
            return model.fit(rows, neighbours, checkpoints, weights, **more)

    def _received(self, described: Any, own: np.ndarray | None) -> np.ndarray | None:  # noqa: ANN401
        """An array of the first process, which has it: from the same file, or sent."""
        import torch
        from torch import distributed

        if isinstance(described, Path):
            return self._opened(described, own)
        if described is None:
            return None
        shape, dtype = described
        sent = torch.empty(shape, dtype=getattr(torch, dtype)) if own is None else torch.tensor(own)
        distributed.broadcast(sent, 0)
        return sent.numpy() if own is None else own

    def _opened(self, file: Path, own: np.ndarray | None) -> np.ndarray | None:
        """A memory map, if all find the same in the file."""
        from torch import distributed

        try:
            array = np.load(file, mmap_mode="r") if own is None else own
            found = fingerprint(array)
        except (OSError, ValueError) as error:
            found = str(error)
        of_all = [""] * self._n
        distributed.all_gather_object(of_all, found)
        for worker, of_worker in enumerate(of_all):
            if of_worker != of_all[0]:
                raise ValueError(f"parallel: worker {worker} finds other rows than the first in {file}: {of_worker}")
        return array


def versions() -> dict[str, str]:
    """What all processes must have alike."""
    import torch

    return {"deep-clustering": __version__, "torch": str(torch.__version__), "Python": platform.python_version()}


def compare_versions(of_workers: list[dict[str, str]]) -> None:
    """Refuse workers that have not the versions of the first; raises ValueError."""
    for worker, own in enumerate(of_workers):
        if own != of_workers[0]:
            raise ValueError(
                f"parallel: workers of different versions: the first has {_listed(of_workers[0])}, worker {worker} "
                f"{_listed(own)}; install the same on all machines"
            )


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _described(array: np.ndarray | None) -> Any:  # noqa: ANN401
    """The file of a memory map, or shape and type of what is to be sent."""
    if array is None:
        return None
    return mapped_file(array) or (array.shape, array.dtype.name)
