"""Optimisers and their schedule: the same with values in tensors on the device as with numbers, and after a resume."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from deep_clustering.training.optimisers import MovingAdamW, OneCycle, WarmUp, make_optimiser, restore_optimiser
from waits import Waits

CPU = torch.device("cpu")
PEAK = 0.02


def network() -> nn.Linear:
    layer = nn.Linear(5, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 15).view(3, 5))
        layer.bias.zero_()
    return layer


def adamw(layer: nn.Module, in_tensor: bool) -> torch.optim.AdamW:
    """As on CUDA, with the rate in a tensor; or with a number."""
    return (
        MovingAdamW(layer.parameters(), lr=torch.tensor(PEAK))
        if in_tensor
        else torch.optim.AdamW(layer.parameters(), lr=PEAK)
    )


def step(layer: nn.Module, optimiser: torch.optim.Optimizer, number: int) -> None:
    rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(number))
    optimiser.zero_grad()
    layer(rows).square().mean().backward()
    optimiser.step()


def values(group: dict) -> list[float]:
    return [float(group["lr"]), *map(float, group["betas"])]


@pytest.mark.parametrize("in_tensor", [False, True])
def test_the_schedule_is_the_one_cycle_of_torch(in_tensor):
    layer = network()
    optimiser, reference = adamw(layer, in_tensor), adamw(network(), in_tensor=False)
    schedule, expected = OneCycle(optimiser, PEAK, 20), OneCycleLR(reference, PEAK, total_steps=20)
    rates = []
    for number in range(20):
        np.testing.assert_allclose(
            values(optimiser.param_groups[0]), values(reference.param_groups[0]), rtol=1e-5, atol=1e-9
        )
        rates.append(float(optimiser.param_groups[0]["lr"]))
        step(layer, optimiser, number)
        reference.step()
        if number < 19:
            schedule.step()
            expected.step()
    assert max(rates) == pytest.approx(PEAK, rel=0.05)
    assert rates[-1] < PEAK / 1000
    schedule.step()  # behind the last step of a training the loop moves on once more


@pytest.mark.parametrize("in_tensor", [False, True])
def test_the_only_step_of_a_training_moves_something(in_tensor):
    """Of a cycle of one step that step would be the last: a rate of PEAK times 4e-6."""
    layer = network()
    optimiser = adamw(layer, in_tensor)
    schedule = OneCycle(optimiser, PEAK, 1)
    assert PEAK / 10 <= float(optimiser.param_groups[0]["lr"]) <= PEAK
    step(layer, optimiser, 0)
    schedule.step()


def test_rate_and_momentum_in_tensors_stay_the_tensors_that_a_captured_step_reads():
    layer = network()
    optimiser = adamw(layer, in_tensor=True)
    schedule = OneCycle(optimiser, PEAK, 10)
    group = optimiser.param_groups[0]
    rate, betas = group["lr"], group["betas"]
    assert all(isinstance(value, torch.Tensor) for value in (rate, *betas))
    for number in range(10):
        step(layer, optimiser, number)
        schedule.step()
        assert group["lr"] is rate
        assert all(now is before for now, before in zip(group["betas"], betas, strict=True))


def test_a_run_with_tensors_ends_as_one_with_numbers():
    layers = network(), network()
    for layer, in_tensor in zip(layers, (False, True), strict=True):
        optimiser = adamw(layer, in_tensor)
        schedule = OneCycle(optimiser, PEAK, 15)
        for number in range(15):
            step(layer, optimiser, number)
            schedule.step()
    for one, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), atol=1e-6)
    assert not torch.allclose(layers[0].weight, network().weight, atol=1e-2)


def test_a_step_with_tensors_neither_waits_nor_touches_parameters_without_a_gradient():
    layer, unused = network(), nn.Parameter(torch.ones(2))
    optimiser = MovingAdamW([*layer.parameters(), unused], lr=torch.tensor(PEAK))
    schedule = OneCycle(optimiser, PEAK, 10)
    with Waits() as waits:
        for number in range(5):
            layer(torch.full((8, 5), float(number))).square().mean().backward()
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    assert waits.found == []
    assert torch.equal(unused, torch.ones(2))


@pytest.mark.parametrize("in_tensor", [False, True])
def test_either_optimiser_goes_on_from_the_state_of_the_other(in_tensor):
    unbroken, broken = network(), network()
    optimiser, other = adamw(unbroken, in_tensor), adamw(broken, not in_tensor)
    for number in range(5):
        step(unbroken, optimiser, number)
    broken.load_state_dict(unbroken.state_dict())
    restore_optimiser(other, copy.deepcopy(optimiser.state_dict()))
    for number in range(5, 10):
        step(unbroken, optimiser, number)
        step(broken, other, number)
    np.testing.assert_allclose(broken.weight.detach(), unbroken.weight.detach(), atol=1e-6)


@pytest.mark.parametrize("in_tensor", [False, True])
def test_a_restored_optimiser_and_schedule_go_on_as_if_never_stopped(in_tensor):
    unbroken, broken = network(), network()
    optimiser = adamw(unbroken, in_tensor)
    schedule = OneCycle(optimiser, PEAK, 12)
    for number in range(5):
        step(unbroken, optimiser, number)
        schedule.step()
    broken.load_state_dict(unbroken.state_dict())
    saved = copy.deepcopy((optimiser.state_dict(), schedule.state_dict()))
    other = adamw(broken, in_tensor)
    restored = OneCycle(other, PEAK, 12)
    restore_optimiser(other, saved[0])
    restored.load_state_dict(saved[1])
    assert values(other.param_groups[0]) == pytest.approx(values(optimiser.param_groups[0]))
    for number in range(5, 12):
        step(unbroken, optimiser, number)
        schedule.step()
        step(broken, other, number)
        restored.step()
    assert torch.equal(broken.weight, unbroken.weight)


def test_restored_moments_lie_in_memory_as_their_parameters_do():
    """A file has plain arrays, and a fused kernel takes the n-th number of each for one weight."""
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = make_optimiser(torch.optim.Adam, layer.parameters(), 0.1, CPU)
    layer(torch.ones(2, 3, 5, 5)).square().mean().backward()
    optimiser.step()
    expected = optimiser.state[layer.weight]["exp_avg"].clone()
    state = optimiser.state_dict()
    for moments in state["state"].values():
        moments |= {name: value.contiguous() for name, value in moments.items()}
    other = make_optimiser(torch.optim.Adam, layer.parameters(), 0.1, CPU)
    restore_optimiser(other, state)
    restored = other.state[layer.weight]["exp_avg"]
    assert restored.stride() == layer.weight.stride() != expected.contiguous().stride()
    assert torch.equal(restored, expected)


@pytest.mark.parametrize("was_tensor", [False, True])
@pytest.mark.parametrize("in_tensor", [False, True])
def test_a_restored_rate_is_where_the_optimiser_had_it(in_tensor, was_tensor):
    """A captured step reads a tensor; a number that took its place would be the same in every replay."""
    saved = adamw(network(), in_tensor=was_tensor)
    saved.param_groups[0]["lr"] = torch.tensor(0.5) if was_tensor else 0.5
    optimiser = adamw(network(), in_tensor=in_tensor)
    before = optimiser.param_groups[0]["lr"]
    restore_optimiser(optimiser, saved.state_dict())
    rate = optimiser.param_groups[0]["lr"]
    assert (rate is before) if in_tensor else isinstance(rate, float)
    assert float(rate) == 0.5


@pytest.mark.parametrize("kind", [MovingAdamW, torch.optim.Adam, torch.optim.AdamW])
def test_a_restored_count_of_steps_is_on_the_device(kind):
    """torch leaves it where the checkpoint was read unless the optimiser says how it steps; meta stands for CUDA."""
    layer, away = network(), network().to("meta")
    saved = torch.optim.AdamW(layer.parameters(), lr=0.1)
    step(layer, saved, 0)
    more = {} if kind is MovingAdamW else {"capturable": True}
    restored = kind(away.parameters(), lr=torch.tensor(0.1), **more)
    rate = restored.param_groups[0]["lr"] = restored.param_groups[0]["lr"].to("meta")
    restore_optimiser(restored, saved.state_dict())
    for state in restored.state.values():
        assert {name: value.device.type for name, value in state.items()} == dict.fromkeys(state, "meta")
    assert restored.param_groups[0]["capturable"]
    assert restored.param_groups[0]["lr"] is rate


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_on_a_processor_the_rate_is_a_number(kind):
    group = make_optimiser(kind, network().parameters(), 0.1, CPU).param_groups[0]
    assert group["lr"] == 0.1
    assert isinstance(group["lr"], float)
    assert not group.get("capturable")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {"betas": (0.5, 0.9)}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_on_a_processor_steps_are_those_of_torch_parameter_by_parameter(kind, options):
    layers = network(), network()
    optimisers = (
        make_optimiser(kind, layers[0].parameters(), 0.01, CPU, **options),
        kind(layers[1].parameters(), lr=0.01, foreach=False, fused=False, **options),
    )
    for number in range(10):
        for layer, optimiser in zip(layers, optimisers, strict=True):
            step(layer, optimiser, number)
    for one, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), atol=1e-6)
    assert not torch.allclose(layers[0].weight, network().weight, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(
    ("kind", "is_fused"),
    [(torch.optim.Adam, True), (torch.optim.AdamW, True), (torch.optim.SGD, True), (torch.optim.AdamW, False)],
)
def test_on_cuda_all_that_changes_is_on_the_device(kind, is_fused):
    device = torch.device("cuda")
    layer = network().to(device)
    group = make_optimiser(kind, layer.parameters(), 0.1, device, is_fused=is_fused).param_groups[0]
    assert group["lr"].device.type == "cuda"
    assert bool(group.get("fused")) is is_fused
    if kind is not torch.optim.SGD and is_fused:
        assert group["capturable"]


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_warm_up_rises_linearly_and_is_continued_where_it_was(as_tensor):
    def begin():
        rate = torch.tensor(1.0) if as_tensor else 1.0
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
        return optimiser, WarmUp(optimiser, 0.5, 5)

    optimiser, schedule = begin()
    rates = []
    for _ in range(7):
        rates.append(float(optimiser.param_groups[0]["lr"]))
        schedule.step()
    np.testing.assert_allclose(rates, [*np.linspace(0, 0.5, 5), 0.5, 0.5])
    other, continued = begin()
    continued.load_state_dict({"done": 2})
    assert float(other.param_groups[0]["lr"]) == 0.25
    for n_steps in (0, 1):  # the last step of the rise has the peak, also where it is the first
        optimiser.param_groups[0]["lr"] = torch.tensor(0.0) if as_tensor else 0.0
        assert WarmUp(optimiser, 0.5, n_steps).state_dict() == {"done": 0}
        assert float(optimiser.param_groups[0]["lr"]) == 0.5


def test_a_step_without_any_gradient_moves_nothing_and_counts_no_step():
    layer, expected = network(), network()
    optimiser, other = adamw(layer, in_tensor=True), adamw(expected, in_tensor=False)
    optimiser.step()
    assert not optimiser.state
    for one in (layer, expected):
        one(torch.ones(2, 5)).square().sum().backward()
    optimiser.step()
    other.step()  # which has not stepped before
    for found, value in zip(layer.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, value)
