"""Shards by the workers of a Ray cluster: each is a task; its rows come back, and this process stores them.

So workers need no folder in common, and one that dies loses its shard only, which is given out again.
"""

import logging
import os
import pickle
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from deep_clustering.data.shards import Piece
from deep_clustering.training.meeting import compare_versions, versions
from deep_clustering.training.on_ray import check_ray, connect, in_processes

if TYPE_CHECKING:
    from deep_clustering.data.feature_options import FeatureOptions

logger = logging.getLogger(__name__)

_LAUNCHER = "features.launcher"
# How often a shard is given out, if workers die of it.
_ATTEMPTS = 3

Make = Callable[[], Callable[[Any], tuple[np.ndarray, Counter[str]]]]


def check_cluster(options: "FeatureOptions") -> None:
    """Look, before anything is computed, for the Ray that is to compute the shards.

    Args:
        options: Of the features.

    Raises:
        ValueError: if shards are asked of it, and it is not installed, no cluster answers, or they go to a graphics
            processor.
    """
    if options.launcher == "ray" and options.has_shards:
        check_ray(_LAUNCHER)
        on_processors(options)


def on_processors(options: "FeatureOptions") -> "FeatureOptions":
    """The same options for the workers of a cluster, which compute on processors; raises ValueError for others."""
    from deep_clustering.training.rows import resolve_device

    if (device := resolve_device(options.device)).type != "cpu":
        raise ValueError(f"{_LAUNCHER}: ray takes processors only, expected features.device = cpu, got {device.type}")
    return replace(options, device="cpu")


def on_cluster(
    make: Make, samples: Sequence[str] | np.ndarray, counts: Counter[str]
) -> Callable[[Sequence[tuple[int, int]]], Generator[Piece]]:
    """Shards in the order in which workers are done with them.

    Args:
        make: Opens, on a worker, what makes of the samples of a shard their rows and what there is to count; a
            function of a module, or `functools.partial` of one with plain values.
        samples: Of all shards; those of a shard are sent.
        counts: What was counted is added to it.

    Returns:
        Function of spans, for `fill`. It raises ValueError if there is no cluster or none with room for a shard, a
        worker's own error, and ChildProcessError if a shard's workers die again and again.
    """

    def pieces(spans: Sequence[tuple[int, int]]) -> Generator[Piece]:
        if not spans:
            return
        import torch

        threads = torch.get_num_threads()
        is_ours = connect(_LAUNCHER, max(os.cpu_count() or 1, threads))
        import ray

        try:
            for span, (rows, of_shard) in _computed(pickle.dumps(make), samples, spans, threads):
                counts.update(of_shard)
                yield Piece(span, slice(None), rows)
        finally:
            if is_ours:
                ray.shutdown()

    return pieces


def _computed(
    recipe: bytes, samples: Sequence[str] | np.ndarray, spans: Sequence[tuple[int, int]], threads: int
) -> Generator[tuple[tuple[int, int], tuple[np.ndarray, Counter[str]]]]:
    """Spans with what workers made of them; one more task than there is room for waits, so that no worker does."""
    import ray
    from ray import exceptions

    room, work, own = _room(threads), in_processes(_work, threads), versions()
    left = deque((span, 1) for span in spans)
    running: dict[Any, tuple[tuple[int, int], int]] = {}
    logger.info("features: %d shards by a Ray cluster, at most %d at a time", len(spans), room)
    try:
        while left or running:
            while left and len(running) <= room:
                span, attempt = left.popleft()
                running[work.remote(recipe, own, samples[slice(*span)])] = span, attempt
            (job, *_), _ = ray.wait(list(running))
            span, attempt = running.pop(job)
            try:
                made = ray.get(job)
            except exceptions.RayTaskError as error:
                raise error.cause from None
            except exceptions.RayError as error:
                _note_death(span, attempt, error)
                left.appendleft((span, attempt + 1))
            else:
                yield span, made
    finally:
        for job in running:
            with suppress(Exception):  # it has ended meanwhile
                ray.cancel(job, force=True)


def _room(threads: int) -> int:
    """Shards that the cluster has room for at a time; raises ValueError if no node has."""
    import ray

    processors = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    room = sum(int(of_node // threads) for of_node in processors)
    if not room:
        raise ValueError(
            f"{_LAUNCHER}: a shard takes {threads} processors of a node, as many as this process has threads, and the "
            f"largest node has {max(processors, default=0):g}; set OMP_NUM_THREADS, or start nodes with more"
        )
    return room


def _note_death(span: tuple[int, int], attempt: int, error: Exception) -> None:
    """Say that a shard is given out again; raises ChildProcessError if that was done before."""
    what = f"features: the process or node of a worker died over rows {span[0]} to {span[1] - 1}"
    if attempt == _ATTEMPTS:
        raise ChildProcessError(f"{what}, {attempt} times: killed, out of memory, or crashed ({error})") from error
    logger.warning("%s: another one takes them", what)


def _work(recipe: bytes, of_first: dict[str, str], samples: Any) -> tuple[np.ndarray, Counter[str]]:  # noqa: ANN401
    """A task: rows of a shard."""
    compare_versions([of_first, versions()])
    return _opened(recipe)(samples)


@lru_cache(maxsize=1)
def _opened(recipe: bytes) -> Callable[[Any], tuple[np.ndarray, Counter[str]]]:
    """What a worker process opens for its first shard; the next ones find it open."""
    return pickle.loads(recipe)()
