"""Streams of random numbers: none repeats another, and what is seeded is put back."""

from contextlib import nullcontext

import pytest
import torch

from deep_clustering.training.streams import derived_seed, seeded, stream

CPU = torch.device("cpu")
SEEDS = [*range(300), 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
PURPOSES = ["fresh views", "settling", "numbers of clusters"]


def first_draws(generator: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randint(2**31, (4,), generator=generator).tolist())


def test_streams_of_seeds_purposes_and_numbers_and_the_trainings_own_all_differ():
    """A generator on the processor takes 32 bits of its seed: 2^40 + seed would be the stream of the seed itself."""
    draws = [first_draws(torch.Generator().manual_seed(seed)) for seed in SEEDS]
    draws += [
        first_draws(stream(seed, purpose, CPU, number)) for seed in SEEDS for purpose in PURPOSES for number in range(4)
    ]
    assert len(set(draws)) == len(draws) == len(SEEDS) * (1 + 4 * len(PURPOSES))


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_stream_is_the_same_each_time(seed):
    assert first_draws(stream(seed, "settling", CPU, 3)) == first_draws(stream(seed, "settling", CPU, 3))
    assert first_draws(stream(seed, "settling", CPU)) == first_draws(stream(seed, "settling", CPU, 0))


def test_the_first_restart_has_the_seed_itself_and_no_other_restart_has_a_seed_of_another():
    assert [derived_seed(seed, 0) for seed in SEEDS] == SEEDS
    derived = {derived_seed(seed, restart) for seed in range(50) for restart in range(20)}
    assert len(derived) == 50 * 20
    assert all(0 <= seed < 2**32 for seed in derived)


def test_a_stream_leaves_torchs_own_generator_alone():
    before = torch.get_rng_state()
    stream(3, "fresh views", CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_draws_depend_on_the_seed_alone_and_are_put_back():
    before, drawn = torch.get_rng_state(), []
    for seed in (1, 2, 1):
        with seeded(seed, CPU):
            drawn.append(tuple(torch.rand(3).tolist()))
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(1)
        before = torch.get_rng_state()
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize(("device", "expected"), [("cpu", []), ("mps", []), ("cuda:1", ["cuda:1"])])
def test_no_other_graphics_processor_is_woken_up(monkeypatch, device, expected):
    seen = []
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: seen.append(devices) or nullcontext())
    monkeypatch.setattr(torch, "manual_seed", lambda _: None)
    with seeded(0, torch.device(device)):
        pass
    assert seen == [[torch.device(name) for name in expected]]
