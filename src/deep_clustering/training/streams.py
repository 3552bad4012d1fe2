"""Streams of random numbers: what a stream of one purpose draws never repeats what one of another draws."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(seed: int, restart: int) -> int:
    """Seed of a restart; the first has the seed itself."""
    return seed if restart == 0 else int(np.random.SeedSequence((seed, restart)).generate_state(1)[0])


def stream(seed: int, purpose: str, device: torch.device, number: int = 0) -> torch.Generator:
    """A generator for one purpose, so that looking at a model does not disturb its training.

    The seed is a hash: a generator on the CPU takes 32 bits of it, so that seeds made by sums or shifts can coincide.

    Args:
        seed: Seed of the training.
        purpose: What is drawn.
        device: Where it is drawn.
        number: Tells several streams of one purpose apart.

    Returns:
        The generator.
    """
    entropy = (seed, zlib.crc32(purpose.encode()), number)
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators, from which networks take their first weights, and put them back afterwards."""
    # Without names torch would wake up every graphics processor of the machine.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
