"""Optimisers whose steps a CUDA graph can hold: all that changes from step to step is on the device."""

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

# Options of an optimiser that say how it steps on its device.
_OF_THE_DEVICE = ("capturable", "fused", "foreach")
# What torch keeps its compiler out of. No step is compiled here, only networks are.
_GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def make_optimiser(
    kind: type[torch.optim.Optimizer],
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    device: torch.device,
    *,
    is_fused: bool = True,
    **options: Any,  # noqa: ANN401
) -> torch.optim.Optimizer:
    """An optimiser for parameters on a device.

    On CUDA Adam counts its steps there, and the learning rate is a tensor there: a schedule changes a value that a
    captured step reads, not a number that was written into it.

    Args:
        kind: SGD, Adam or AdamW.
        parameters: What it moves.
        learning_rate: The rate, or where a schedule starts from.
        device: Where the parameters are.
        is_fused: Whether CUDA's fused kernels do, which take Adam's momentum as a number, as `OneCycle` does not leave
            it; else it is AdamW. A processor's fused kernels, which look at each number once, take either.
        options: Further arguments of that kind.

    Returns:
        The optimiser.
    """
    if device.type != "cuda":
        kind = _unguarded(kind)  # type: ignore[arg-type] # a class can be hashed
        return kind(parameters, lr=learning_rate, fused=device.type == "cpu", **options)  # type: ignore[call-arg]
    if not is_fused:
        return MovingAdamW(parameters, lr=torch.tensor(learning_rate, device=device), **options)
    if kind is not torch.optim.SGD:  # which counts no steps
        options["capturable"] = True
    return kind(parameters, lr=torch.tensor(learning_rate, device=device), fused=True, **options)  # type: ignore[call-arg]


@cache
def _unguarded(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimiser without guards, the first of which imports torch's compiler: two seconds of every training.

    Its steps are torch's own. It cannot be pickled, its state can.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _GUARDED}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


class MovingAdamW(torch.optim.AdamW):
    """AdamW whose rate and momentum are tensors that a schedule fills anew for each step.

    torch's own reads the momentum back to the host, which waits for the device, and which a captured step cannot do.
    Its state is that of torch's AdamW, so that each reads the checkpoints of the other.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: Tensor, **options: Any) -> None:  # noqa: ANN401
        """Begin with a rate; further options are those of AdamW."""
        super().__init__(parameters, lr=lr, capturable=True, **options)  # which has its counts on the device

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step on the gradients of all parameters that have one."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._move(parameters, group)

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] |= {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }
        gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
        steps, means, squares = (
            [self.state[parameter][name] for parameter in parameters] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        rate, (beta1, beta2) = group["lr"], group["betas"]
        torch._foreach_add_(steps, 1)
        number = steps[0]  # the same for all
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, list(torch._foreach_mul(gradients, 1 - beta1)))
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, list(torch._foreach_mul(gradients, 1 - beta2)))
        # p -= rate / (1 - beta1^t) * mean / (sqrt(square) / sqrt(1 - beta2^t) + eps), with all factors in the divisor
        divisors = torch._foreach_sqrt(squares)
        torch._foreach_div_(divisors, (1 - beta2**number).sqrt())
        torch._foreach_add_(divisors, group["eps"])
        torch._foreach_mul_(divisors, (beta1**number - 1) / rate)
        torch._foreach_addcdiv_(parameters, means, divisors)


class Schedule(Protocol):
    """What changes the values of an optimiser from step to step."""

    def step(self) -> None:
        """Move on behind a step."""

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the optimiser's state has been restored before."""


class OneCycle:
    """Adam's rate rises to a peak over the first steps and falls to nearly nothing; its momentum does the opposite.

    Where the rate is a tensor, the momentum is one as well: torch's own schedule would write a number into a step that
    was captured. A training of one step is the first of two, since the last step of a cycle changes nothing.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, learning_rate: float, n_steps: int) -> None:
        """Begin a cycle.

        Args:
            optimiser: Adam or AdamW.
            learning_rate: The peak.
            n_steps: Steps of the training.
        """
        self._optimiser = optimiser
        self._schedule = OneCycleLR(optimiser, learning_rate, total_steps=max(2, n_steps))
        self._betas = [
            tuple(torch.empty_like(group["lr"]) for _ in group["betas"]) if isinstance(group["lr"], Tensor) else None
            for group in optimiser.param_groups
        ]
        self._place()

    def step(self) -> None:
        """Move on behind a step."""
        self._schedule.step()
        self._place()

    def state_dict(self) -> dict[str, Any]:
        """Where the cycle is."""
        return {name: value for name, value in self._schedule.state_dict().items() if not callable(value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the optimiser's state has been restored before."""
        self._schedule.load_state_dict(state)
        self._place()

    def _place(self) -> None:
        """Fill the tensors that a captured step reads; nothing waits for the device."""
        for group, places in zip(self._optimiser.param_groups, self._betas, strict=True):
            if places is not None:
                for place, beta in zip(places, group["betas"], strict=True):
                    if place is not beta:
                        place.copy_(beta) if isinstance(beta, Tensor) else place.fill_(beta)
                group["betas"] = places


class WarmUp:
    """The rate rises linearly from nothing to a peak, and stays there."""

    def __init__(self, optimiser: torch.optim.Optimizer, peak: float, n_steps: int) -> None:
        """Begin at nothing.

        Args:
            optimiser: Any optimiser.
            peak: The rate behind the rise.
            n_steps: Steps of the rise, the last of which has the peak; 0 for none.
        """
        self._optimiser, self._peak, self._n_steps, self._done = optimiser, peak, n_steps, 0
        self._place()

    def step(self) -> None:
        """Move on behind a step."""
        self._done += 1
        self._place()

    def state_dict(self) -> dict[str, Any]:
        """How many steps are done."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the optimiser's state has been restored before."""
        self._done = state["done"]
        self._place()

    def _place(self) -> None:
        share = min(1.0, self._done / (self._n_steps - 1)) if self._n_steps > 1 else 1.0
        for group in self._optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(share * self._peak)
            else:
                group["lr"] = share * self._peak


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take over a saved state, perhaps of another device: what changes from step to step lies where it lay before.

    Args:
        optimiser: An optimiser of the same parameters, on their device.
        state: What `state_dict` gave, its tensors on any device.
    """
    groups, rates = optimiser.param_groups, [group["lr"] for group in optimiser.param_groups]
    # By them torch decides where a count of steps belongs, and they are of the device, not of what was learned.
    own = [{name: group[name] for name in _OF_THE_DEVICE if name in group} for group in groups]
    saved = [group | kept for group, kept in zip(state["param_groups"], own, strict=True)]
    optimiser.load_state_dict({**state, "param_groups": saved})
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        if isinstance(rate, Tensor):
            group["lr"] = rate.copy_(group["lr"]) if isinstance(group["lr"], Tensor) else rate.fill_(group["lr"])
        else:
            group["lr"] = float(group["lr"])
    for parameter, of_parameter in optimiser.state.items():
        for name, value in of_parameter.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Fused kernels go through memory, where channels may be innermost; a file has lost that.
                of_parameter[name] = torch.empty_like(parameter).copy_(value)
