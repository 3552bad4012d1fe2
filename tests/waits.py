"""What a test uses to see whether code would wait for a device."""

from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Collects operations that make the host wait for the device, or whose shape depends on values."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket._qualified_op_name.split("::")[1] in self.FORBIDDEN:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))
