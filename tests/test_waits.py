"""What the tests of waiting can see: each way in which code has waited for a device."""

import pytest
import torch

from waits import DEVICE, Waits

ON_DEVICE, ON_HOST = torch.zeros(3, 3, device=DEVICE), torch.zeros(3, 3)

WAITS = {
    "cpu": lambda: ON_DEVICE.cpu(),
    "to": lambda: ON_DEVICE.to("cpu", non_blocking=True),
    "item": lambda: ON_DEVICE[0, 0].item(),
    "truth": lambda: bool(ON_DEVICE[0, 0]),
    "tolist": lambda: ON_DEVICE.tolist(),
    "copied to the host": lambda: torch.zeros(3, 3).copy_(ON_DEVICE, non_blocking=True),
    "copied to the device": lambda: torch.zeros(3, 3, device=DEVICE).copy_(ON_HOST),
    "hurried": lambda: ON_HOST.to(DEVICE),
    "constant": lambda: torch.tensor([1.0], device=DEVICE),
    "index on the host": lambda: ON_DEVICE[torch.arange(2)],
    "inverse": lambda: torch.linalg.inv(ON_DEVICE),
    "cpu of the processor": lambda: ON_HOST.cpu(),
    "tolist of the processor": lambda: ON_HOST.tolist(),
    "item of the processor": lambda: ON_HOST[0, 0].item(),
    "mask of the processor": lambda: ON_HOST[ON_HOST > 0],
    "inverse of the processor": lambda: torch.linalg.inv(torch.eye(3)),
    "unique of the processor": lambda: torch.unique(ON_HOST),
}
PASSES = {
    "unhurried": lambda: ON_HOST.to(DEVICE, non_blocking=True),
    "index on the device": lambda: ON_DEVICE[torch.zeros(2, dtype=torch.int64, device=DEVICE)],
    "number": lambda: ON_DEVICE * 2 + torch.full((), 3.0, device=DEVICE),
    "other precision": lambda: ON_DEVICE.double(),
    "blank by a mask": lambda: torch.zeros(3, 3).masked_fill(ON_HOST > 0, 0.0),
    "array": lambda: torch.from_numpy(ON_HOST.numpy()),
}


@pytest.mark.parametrize("way", WAITS)
def test_a_wait_is_seen(way):
    with Waits() as waits:
        WAITS[way]()
    assert len(waits.found) == 1


@pytest.mark.parametrize("way", PASSES)
def test_what_needs_no_wait_passes(way):
    with Waits() as waits:
        PASSES[way]()
    assert waits.found == []


def test_nothing_is_seen_behind_the_watch():
    with Waits() as waits:
        pass
    ON_HOST.tolist()
    assert waits.found == []
