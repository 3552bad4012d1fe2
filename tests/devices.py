"""A device without double precision, as Apple's MPS is, played by the processor."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_WIDE = (torch.float64, torch.complex128)


class SinglePrecisionDevice(TorchFunctionMode):
    """Takes every tensor for one on the device, except what came out of `cpu` or was made without naming a device.

    What such a tensor on the device refuses is to become one of double precision.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = [*_tensors(args), *_tensors(kwargs.values())]
        result = func(*args, **kwargs)
        if func is Tensor.cpu:
            result = result.detach().view_as(result)  # of a tensor on the processor it is the tensor itself
            result.is_on_host = True
            return result
        is_moved = func in (Tensor.to, Tensor.cuda) and not _is_type_alone(args[1:], kwargs)
        is_host = all(_is_on_host(one) for one in given) if given else kwargs.get("device") is None
        if is_host and not is_moved:
            for one in _tensors([result]):
                one.is_on_host = True
        elif any(one.dtype in _WIDE for one in _tensors([result])):
            raise TypeError(f"{func.__name__}: this device has no double precision")
        return result


def _is_type_alone(args: tuple, kwargs: dict) -> bool:
    """Whether arguments of `Tensor.to` name a type and no device."""
    return all(isinstance(value, torch.dtype | bool) for value in (*args, *kwargs.values()))


def _is_on_host(tensor: Tensor) -> bool:
    return getattr(tensor, "is_on_host", False)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
