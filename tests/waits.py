"""What a test uses to see whether code would wait for a device: a watch over it, and a device without a memory.

`Waits` sees what makes the host wait, or makes a shape depend on values. On `DEVICE` (torch's meta device) it also
sees each copy from or to the host; tensors there have a shape but no values, so nothing can be read unseen. On the
processor host and device are the same: there it sees operations and the calls that say where they lead, such as `cpu`.
"""

from contextlib import ExitStack

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")
HOST = torch.device("cpu")


class DeviceGenerator(torch.Generator):
    """A generator of `DEVICE`."""

    device = DEVICE


class Waits:
    """Collects what makes the host wait for the device, or whose shape depends on values, in `found`."""

    def __init__(self):
        self.found = []
        self._entered = ExitStack()

    def __enter__(self):
        self._entered.enter_context(_Calls(self.found))
        self._entered.enter_context(_Operations(self.found))
        return self

    def __exit__(self, *_):
        self._entered.close()


class _Calls(TorchFunctionMode):
    """What no operation of the processor shows."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (Tensor.cpu, Tensor.tolist) and args[0].device == HOST:
            self.found.append(func.__name__)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            self.found.append(f"{func.__name__} of the host's memory")
        return func(*args, **kwargs)


class _Operations(TorchDispatchMode):
    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "bincount",
        "equal",
        "is_nonzero",
        "_linalg_check_errors",
    )

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket._qualified_op_name.split("::")[1]
        if name in ("_to_copy", "copy_"):
            return self._copy(func, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_masked = name == "index" and any(tensor.dtype == torch.bool for tensor in tensors[1:])
        is_mixed = len({tensor.device for tensor in tensors if tensor.dim()}) > 1
        if name in self.FORBIDDEN or is_masked or is_mixed:
            self.found.append(f"{func}{' by a mask' * is_masked}{' of two devices' * is_mixed}")
        if name == "_local_scalar_dense" and args[0].device == DEVICE:
            return 0
        return func(*args, **kwargs)

    def _copy(self, func, args, kwargs):
        """Copies within a place pass, and so do those to the device for which the host needs not wait."""
        *_, source = (leaf for leaf in args if isinstance(leaf, Tensor))
        to = args[0].device if func.overloadpacket is torch.ops.aten.copy_ else kwargs.get("device") or source.device
        is_unhurried = kwargs.get("non_blocking", False) or True in args[2:]
        if to != source.device and not (is_unhurried and to != HOST):
            self.found.append(f"{func} from {source.device} to {to}")
        if source.device == DEVICE and to == HOST:
            kwargs = {name: value for name, value in kwargs.items() if name != "non_blocking"}
            source = torch.zeros(source.shape, dtype=source.dtype)
            args = (args[0], source) if func.overloadpacket is torch.ops.aten.copy_ else (source,)
        return func(*args, **kwargs)
