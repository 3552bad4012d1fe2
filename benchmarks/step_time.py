"""What a training step is made of, and how far a step of DCAN is from its matrix products alone.

    python benchmarks/step_time.py [steps]

One thread, processor time of this process, medians over steps. Images of 28 x 28 with the options of conf/base (and
views of 24 x 24). "Network" is the encoder's forward and backward pass; "rest" is what is left of the step: densities
and EM, or clustering step, discriminator and losses with their backward pass, and diagnostics. The floor is the time of
the matrix products of a step, one after the other with nothing between them; share is floor / step.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kedro.config import OmegaConfigLoader
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from deep_clustering.methods import make_method
from deep_clustering.settings import CONFIG_LOADER_ARGS
from deep_clustering.training.loop import Data, Training

CONF = Path(__file__).parents[1] / "conf"
BATCH = 256
MLP, GAME = [196, 500, 500, 2000, 10], [10, 500, 500, 1]


def parameters() -> dict[str, Any]:
    """The options of conf/base."""
    return dict(
        OmegaConfigLoader(conf_source=str(CONF), **{**CONFIG_LOADER_ARGS, "default_run_env": "base"})["parameters"]
    )


class Stopwatch:
    """Processor time of the parts of each step, in seconds, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._optimiser_began = self._forward_began = 0.0
        self._backward_began: float | None = None

    def around(self, name: str, function: Callable) -> Callable:
        """The function, timed."""

        def timed(*args: Any, **more: Any) -> Any:  # noqa: ANN401
            began = time.process_time()
            result = function(*args, **more)
            self.seconds[name].append(time.process_time() - began)
            return result

        return timed

    def watch_encoder(self, encoder: torch.nn.Module) -> None:
        """Time its forward passes in training, and its backward passes: from the gradient of its output on."""

        def began(*_: Any) -> None:  # noqa: ANN401
            self._forward_began = time.process_time()

        def ended(_: Any, __: Any, output: torch.Tensor) -> None:  # noqa: ANN401
            if output.requires_grad:
                self.seconds["forward"].append(time.process_time() - self._forward_began)
                output.register_hook(self._begin_backward)

        encoder.register_forward_pre_hook(began)
        encoder.register_forward_hook(ended)

    def _begin_backward(self, _: torch.Tensor) -> None:
        self._backward_began = time.process_time()

    def begin_update(self, *_: Any) -> None:  # noqa: ANN401
        """An optimiser begins: if it is the encoder's, its backward pass has ended."""
        self._optimiser_began = time.process_time()
        if self._backward_began is not None:
            self.seconds["backward"].append(self._optimiser_began - self._backward_began)
            self._backward_began = None

    def end_update(self, *_: Any) -> None:  # noqa: ANN401
        """An optimiser has ended."""
        self.seconds["optimiser"].append(time.process_time() - self._optimiser_began)

    def milliseconds(self, name: str, n_steps: int) -> float:
        """Median over the later half of the steps, of the sum of the calls in one step."""
        calls = np.array(self.seconds[name])
        per_step = calls[len(calls) % n_steps :].reshape(n_steps, -1).sum(axis=1)  # without views before the first
        return float(1e3 * np.median(per_step[n_steps // 2 :]))


def parts_of_a_step(options: dict[str, Any], rows: np.ndarray, n_steps: int) -> dict[str, float]:
    """Milliseconds of a step of a method, and of each part of it."""
    estimator: Any = make_method(options)
    watch = Stopwatch()
    view, make_training = type(estimator.view), estimator.training

    def watched(data: Data) -> Training:
        training = make_training(data)
        watch.watch_encoder(training.networks["encoder"])
        training.step = watch.around("step", training.step)
        return training

    estimator.training, pair = watched, view.pair
    hooks = [
        register_optimizer_step_pre_hook(watch.begin_update),
        register_optimizer_step_post_hook(watch.end_update),
    ]
    view.pair = watch.around("views", pair)
    try:
        estimator.fit(rows)
    finally:
        view.pair = pair
        for hook in hooks:
            hook.remove()
    parts = {name: watch.milliseconds(name, n_steps) for name in ("views", "step", "optimiser", "forward", "backward")}
    total, network = parts["views"] + parts.pop("step"), parts.pop("forward") + parts.pop("backward")
    rest = total - network - sum(parts.values())
    return {"total": total, "network": network, **parts, "rest": rest}


def products_of_a_step() -> list[tuple[int, int, int]]:
    """(rows, inner, columns) of every matrix product of a step of DCAN."""
    both, products = 2 * BATCH, []
    for first, (wide, narrow) in enumerate(pairwise(MLP)):
        products += [(both, wide, narrow), (wide, both, narrow)]  # forward, gradient of the weights
        products += [(both, narrow, wide)] if first else []  # gradient of the input
    for first, (wide, narrow) in enumerate(pairwise(GAME)):
        products += [(2 * both, wide, narrow), (wide, 2 * both, narrow)]  # its own update: draws, latents
        products += [(2 * both, narrow, wide)] if first else []
        products += [(both, wide, narrow), (both, narrow, wide)]  # on the way to the encoder
    return products


def floor(precision: str, n_steps: int) -> float:
    """Milliseconds of these products alone."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    pairs = [
        (torch.randn(n_rows, inner, dtype=kind), torch.randn(inner, n_columns, dtype=kind))
        for n_rows, inner, n_columns in products_of_a_step()
    ]
    watch = Stopwatch()

    def multiply() -> None:
        for left, right in pairs:
            left @ right

    for _ in range(n_steps):
        watch.around("floor", multiply)()
    return watch.milliseconds("floor", n_steps)


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    n_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    rng, base = np.random.default_rng(0), parameters()
    images = rng.random((BATCH, 1, 28, 28), dtype=np.float32)  # one batch an epoch
    short = {"epochs": n_steps, "record_every": n_steps, "batch_size": BATCH, "start": {"kind": "none"}, "n_init": 1}
    short["restarts"] = 1
    print("| method | precision | step, ms | network | views | optimiser | rest |\n|---|---|---|---|---|---|---|")
    for method in ("neural_mixture", "dcan"):
        for precision in ("fp32", "bf16"):
            changes = {name: value for name, value in short.items() if name in base[method]}
            options = base[method] | changes | {"precision": precision}
            options["views"] = options["views"] | {"size": 24}
            parts = parts_of_a_step(options, images, n_steps)
            total = parts.pop("total")
            shares = " | ".join(f"{part / total:.0%}" for part in parts.values())
            print(f"| {method} | {precision} | {total:.1f} | {shares} |")
    rows = rng.random((BATCH, MLP[0]), dtype=np.float32)
    game = {
        "latent_dim": MLP[-1],
        "encoder": {"kind": "mlp", "hidden": MLP[1:-1]},
        "discriminator_hidden": GAME[1:-1],
        "conditioning": "none",
        "views": {"kind": "noise", "scale": 0.1},
    }
    sizes = "-".join(map(str, MLP)), "-".join(map(str, GAME))
    print(f"\n| DCAN {sizes[0]}, {sizes[1]} | step, ms | matrix products, ms | share |\n|---|---|---|---|")
    for precision in ("fp32", "bf16"):
        step = parts_of_a_step(base["dcan"] | short | game | {"precision": precision}, rows, n_steps)["total"]
        least = floor(precision, n_steps)
        print(f"| {precision} | {step:.1f} | {least:.1f} | {least / step:.0%} |")


if __name__ == "__main__":
    main()
