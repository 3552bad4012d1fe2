"""The number format of a network's passes in training: one decision for a fit, recorded."""

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)

# Passes that are timed in each precision, by turns; the fastest of each counts, so that other programs do not.
_TURNS = 3
# Below this gain nothing is given up for it: the choice is then the same on every run, whatever else runs beside.
_LEAST_GAIN = 1.2


def resolve_precision(name: str, device: torch.device) -> str:
    """Precision for a name.

    Args:
        name: "auto" (bf16 where the device computes with it, else fp32), "bf16" or "fp32".
        device: Where the network runs.

    Returns:
        "bf16" or "fp32".
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    return "fp32"


def training_precision(name: str, network: nn.Module, shape: tuple[int, ...], device: torch.device) -> str:
    """Precision of the passes of a network in training.

    Args:
        name: "fp32", "bf16", or "auto": bf16 if the device computes with it and a training step is faster by a fifth.
        network: The network, on the device; a copy of it is tried, so that neither weights nor statistics move.
        shape: Of a batch of views.
        device: Where it is.

    Returns:
        "bf16" or "fp32".
    """
    if name != "auto" or resolve_precision(name, device) == "fp32":
        return resolve_precision(name, device)
    trial = copy.deepcopy(network).train()
    views = torch.zeros(shape, device=device)
    seconds = {"fp32": float("inf"), "bf16": float("inf")}
    for _ in range(1 + _TURNS):  # the first turn pays for what is set up only once
        for precision in seconds:
            seconds[precision] = min(seconds[precision], _seconds_of_a_pass(trial, views, precision))
    chosen = "bf16" if seconds["fp32"] >= _LEAST_GAIN * seconds["bf16"] else "fp32"
    logger.info(
        "precision: %s (a pass takes %.1f ms in fp32 and %.1f ms in bf16)",
        chosen,
        1e3 * seconds["fp32"],
        1e3 * seconds["bf16"],
    )
    return chosen


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """What a network's pass in training runs under."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def full_single_precision(device: torch.device) -> Iterator[None]:
    """On CUDA let fp32 be fp32: torch's defaults take TF32 for convolutions and not for matrix products."""
    if device.type != "cuda":
        yield
        return
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def _seconds_of_a_pass(network: nn.Module, views: torch.Tensor, precision: str) -> float:
    """Time of one forward and backward pass."""
    wait_for(views.device)
    began = time.perf_counter()
    with autocast(precision, views.device):
        outputs = network(views)
    outputs.float().sum().backward()
    wait_for(views.device)
    return time.perf_counter() - began


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
