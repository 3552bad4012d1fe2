"""What a graphics processor makes of the project: parity with the processor, steps, MNIST, CIFAR-10 in a given time.

    python benchmarks/gpu.py [--seconds 300] [--mnist mnist.npz] [--cifar10 cifar10.npz] [--only parity,steps,...]

It needs torch, numpy, scipy, scikit-learn, safetensors, PyYAML, pydantic and this repository beside it; neither Kedro
nor an installation. The data are .npz files with images (n, channels, height, width) or (n, height, width), uint8, and
labels (n,); is_test (n,) marks the rows of a test set. Sections without their data are left out. Options are those of
conf/. Every figure goes to --out as JSON as soon as it is known. No first timing is believed: a time is the median of
blocks behind one that is thrown away. On one H100 or H200 all of it takes --seconds, --mnist-seconds and about three
minutes; a training that would take longer is given up.
"""

import argparse
import copy
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from deep_clustering.methods import make_method  # noqa: E402
from deep_clustering.methods.starts import Given, most_certain  # noqa: E402
from deep_clustering.methods.trunk import make_trunk  # noqa: E402
from deep_clustering.scores.certainty import log_odds  # noqa: E402
from deep_clustering.scores.metrics import labelled_scores  # noqa: E402
from deep_clustering.training.capture import CapturedSteps  # noqa: E402
from deep_clustering.training.compilation import in_use  # noqa: E402
from deep_clustering.training.fitting import make_data  # noqa: E402
from deep_clustering.training.precision import full_single_precision, wait_for  # noqa: E402
from deep_clustering.training.streams import seeded  # noqa: E402

BLOCKS = 5
NEIGHBOURS = 20
HEADS = "neural_mixture_on_trunk"
# What a compiler raises that is missing or does not know an operator.
REFUSALS = (RuntimeError, OSError, ImportError)


class TimeIsUp(Exception):  # noqa: N818
    """A training has used its seconds."""


class Report:
    """Figures by section, printed and written as they come."""

    def __init__(self, path: Path | None) -> None:
        self.figures: dict[str, list[dict[str, Any]]] = {}
        self._path, self._began = path, time.perf_counter()

    def add(self, section: str, **figures: Any) -> None:  # noqa: ANN401
        """Note figures of a section."""
        figures = {"at": round(time.perf_counter() - self._began, 1), **figures}
        self.figures.setdefault(section, []).append(figures)
        print(section, json.dumps(figures), flush=True)
        if self._path:
            self._path.write_text(json.dumps(self.figures, indent=1))


# Options


def _filled(value: Any, shared: dict[str, Any]) -> Any:  # noqa: ANN401
    """A value of conf/ with its references replaced."""
    if isinstance(value, dict):
        filled = {name: _filled(item, shared) for name, item in value.items()}
        beside = {f"${{.{name}}}": item for name, item in filled.items()}
        return {
            name: beside[item] if isinstance(item, str) and item in beside else item for name, item in filled.items()
        }
    if isinstance(value, list):
        return [_filled(item, shared) for item in value]
    if isinstance(value, str) and (found := re.fullmatch(r"\$\{(?:copy_of:|runtime_params:\w+,)(.*)\}", value)):
        return _filled(found[1], shared)
    if isinstance(value, str) and (found := re.fullmatch(r"\$\{globals:(\w+)\}", value)):
        return shared[found[1]]
    if isinstance(value, str) and (found := re.fullmatch(r"\$\{globals:presets\.(\w+|\$\{globals:\w+\})\}", value)):
        return shared["presets"][_filled(found[1], shared)]
    return value


def _merged(base: Any, changes: Any) -> Any:  # noqa: ANN401
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {name: _merged(base.get(name, value), value) for name, value in changes.items()}


def options(environment: str, method: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Options of a method in an environment of conf/, with some of them changed."""
    folders = [ROOT / "conf" / "base", ROOT / "conf" / environment]
    shared: dict[str, Any] = {}
    for folder in folders:
        shared = _merged(shared, yaml.safe_load((folder / "globals.yml").read_text()))
    found: dict[str, Any] = {}
    for folder in folders:
        for file in sorted(folder.glob("parameters*.yml")):
            found = _merged(found, _filled(yaml.safe_load(file.read_text()), shared))
    return _merged(found[method], changes)


# Figures


def milliseconds(step: Callable[[], Any], n_steps: int, device: torch.device) -> float:
    """Time of a step: the median over blocks of `n_steps`, without the first block."""
    seconds = []
    for _ in range(1 + BLOCKS):
        wait_for(device)
        began = time.perf_counter()
        for _ in range(n_steps):
            step()
        wait_for(device)
        seconds.append((time.perf_counter() - began) / n_steps)
    return 1e3 * float(np.median(seconds[1:]))


def scores(assignments: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """ACC and NMI."""
    n_classes = int(labels.max()) + 1
    found = labelled_scores(assignments, labels, max(n_classes, int(assignments.max()) + 1), n_classes)
    return {name: round(float(found[name]), 4) for name in ("acc", "nmi")}


@torch.inference_mode()
def neighbour_accuracy(features: torch.Tensor, labels: np.ndarray, is_test: np.ndarray) -> float:
    """Share of test rows whose label most of the nearest rows of the others have, by the cosine behind centring."""
    unit = F.normalize(features - features.mean(dim=0), dim=1)
    train, test = (torch.from_numpy(np.flatnonzero(side)).to(unit.device) for side in (~is_test, is_test))
    classes = torch.from_numpy(labels).to(unit.device)
    right = 0
    for part in test.split(2000):
        nearest = (unit[part] @ unit[train].T).topk(min(NEIGHBOURS, len(train)), dim=1).indices
        votes = F.one_hot(classes[train][nearest], int(labels.max()) + 1).sum(dim=1)
        right += int((votes.argmax(dim=1) == classes[part]).sum())
    return right / len(test)


# Sections


def parity(report: Report, device: torch.device, small: bool) -> None:
    """A model fitted on the device, on both; and a training of replays beside one of steps, from the same seed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = (digits.images[:, None] / 16).astype(np.float32), digits.target.astype(np.int64)
    changes: dict[str, Any] = {"epochs": 2} if small else {"epochs": 20}
    for method in ("neural_mixture", "dcan"):
        made = options("digits", method, device=str(device), restarts=1, start={"kind": "none"}, **changes)
        fitted = make_method(made).fit(images)
        here = make_method(made | {"device": "cpu"}).set_arrays(fitted.get_arrays()).describe(images)
        there = fitted.describe(images)
        with uncaptured():
            stepped = make_method(made).fit(images)
        again = stepped.predict(images)
        report.add(
            "parity",
            method=method,
            same_on_cpu=float((here.assignments == there.assignments).mean()),
            greatest_difference_of_probabilities=float(np.abs(here.responsibilities - there.responsibilities).max()),
            replays_as_steps=float((again == there.assignments).mean()),
            first_epoch_differs_by=float(abs(first_loss(fitted) - first_loss(stepped))),
            waiting_steps_as_steps=float((waiting_fit(made, images) == again).mean()),
            **scores(there.assignments, labels),
        )


def waiting_fit(made: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Assignments by a training whose steps wait for the device, which cannot be captured and must go on."""
    estimator: Any = make_method(made)
    make = estimator.training

    def waiting(data: Any) -> Any:  # noqa: ANN401
        training = make(data)
        step = training.step

        def step_and_wait(*arguments: Any) -> Any:  # noqa: ANN401
            terms = step(*arguments)
            next(iter(terms.values())).item()
            return terms

        training.step = step_and_wait
        return training

    estimator.training = waiting
    assignments: np.ndarray = estimator.fit(images).predict(images)
    return assignments


def first_loss(fitted: Any) -> float:  # noqa: ANN401
    """Loss of the first epoch."""
    history = fitted.history_
    return float(history["loss" if "loss" in history else "loss_encoder"][0])


class uncaptured:  # noqa: N801 - reads as a statement
    """Within it steps run as they come."""

    def __enter__(self) -> None:
        from deep_clustering.training import capture

        self._module, self._before = capture, capture.can_capture
        capture.can_capture = lambda device: False

    def __exit__(self, *_: object) -> None:
        self._module.can_capture = self._before


class Bench:
    """A training in the middle, whose steps can be timed."""

    def __init__(self, estimator: Any, precision: str, images: np.ndarray, device: torch.device) -> None:  # noqa: ANN401
        estimator.device_ = device
        with seeded(0, device):
            estimator.build(images.shape[1:])
            self.data = make_data(estimator, images, None)
            self.training = estimator.training(self.data)
            self.training.precision = precision
            self.training.begin(None)
        for network in self.training.networks.values():
            network.train()
        self.batch = next(self.data.rows.batches(estimator.batch_size, self.data.generator))
        self.device = device

    def step(self, batch: Any, held: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        """One step as the loop takes it."""
        return self.training.step(self.data.pairs(batch.place), batch.index, held)

    def advance(self, steps: Callable[[Any], Any]) -> None:
        """One step with all that the loop does around it."""
        steps(self.batch)
        for schedule in self.training.schedules.values():
            schedule.step()

    def captured(self) -> CapturedSteps:
        """Steps of which all further ones are replays, where that works."""
        steps = CapturedSteps(self.step, self.training, self.data.generator, rows_are_near=True)
        steps.begin_epoch(self.training.stage(0, None), None)
        for _ in range(5):
            self.advance(steps)
        return steps


def steps(report: Report, device: torch.device, small: bool) -> None:
    """Milliseconds of steps as they come, captured, and captured with a compiled network; share of the peak."""
    peak = peak_of(device, small)
    report.add("peak", **peak)
    rng, n_steps = np.random.default_rng(0), 2 if small else 30
    drawings = rng.integers(0, 256, (64 if small else 4096, 1, 28, 28)).astype(np.float32) / np.float32(255)
    photos = rng.integers(0, 256, (64 if small else 4096, 3, 32, 32)).astype(np.float32) / np.float32(255)
    common: dict[str, Any] = {"device": str(device), "precision": "bf16", "start": {"kind": "none"}}
    if small:
        tiny = {"kind": "resnet", "blocks": [1, 1], "width": 4, "stem_stride": 1}
        common |= {"precision": "fp32", "batch_size": 32}
    cases = {
        "nmm_em_mnist_512": (
            options("mnist", "neural_mixture", views={"size": 28}, **{"batch_size": 256, **common}),
            drawings,
        ),
        "dcan_mnist_512": (options("mnist", "dcan", **{"batch_size": 256, **common}), drawings),
        "nmm_em_resnet18_1024": (options("cifar10_gpu", "neural_mixture", **common), photos),
    }
    if small:
        cases["nmm_em_resnet18_1024"][0]["encoder"] = tiny
    for name, (made, images) in cases.items():
        found = times_of(made | {"epochs": 1000}, images, device, n_steps, peak["tflops_bf16"], "resnet" in name)
        report.add("steps", case=name, **found)


def times_of(
    made: dict[str, Any], images: np.ndarray, device: torch.device, n_steps: int, peak: float, compiles: bool
) -> dict[str, Any]:
    """Figures of one case; compiling takes half a minute, which only a large network is worth."""
    bench = Bench(make_method(made), made["precision"], images, device)
    operations = operations_of(bench)

    def eager(batch: Any) -> None:  # noqa: ANN401
        bench.step(batch, None)

    found: dict[str, Any] = {"gflop": round(operations / 1e9, 2)}
    found["eager_ms"] = milliseconds(lambda: bench.advance(eager), n_steps, device)
    if device.type != "cuda":
        return found
    captured = bench.captured()
    found["captured_ms"] = milliseconds(lambda: bench.advance(captured), n_steps, device)
    if captured.replay is None:
        return found | {"captured_ms": None}
    found["replay_ms"] = milliseconds(captured.replay, n_steps, device)
    if compiles:
        found |= times_compiled(made, images, device, n_steps)
    best = min(found["captured_ms"], found.get("compiled_captured_ms", float("inf")))
    found["share_of_peak"] = operations / (best * 1e-3) / (peak * 1e12)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def operations_of(bench: Bench) -> int:
    """Operations of the products of a step's network, forward and backward, as its layers are written."""
    network = copy.deepcopy(bench.training.network).to("meta")
    views = torch.empty(2 * len(bench.batch.index), *bench.data.view_shape, device="meta")
    with FlopCounterMode(display=False) as flops:
        outputs = network(views)
        whole = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.cat([output.flatten() for output in whole]).sum().backward()
    return flops.get_total_flops()


def times_compiled(made: dict[str, Any], images: np.ndarray, device: torch.device, n_steps: int) -> dict[str, Any]:
    """The same with the network compiled."""
    bench, began = Bench(make_method(made), made["precision"], images, device), time.perf_counter()
    try:
        with in_use(bench.training.network, torch.compile(bench.training.network.forward)):
            steps = bench.captured()
            wait_for(device)
            seconds = time.perf_counter() - began
            return {
                "compile_s": seconds,
                "compiled_captured_ms": milliseconds(lambda: bench.advance(steps), n_steps, device),
            }
    except REFUSALS as error:
        return {"compiler_says": str(error).splitlines()[0]}


def peak_of(device: torch.device, small: bool) -> dict[str, Any]:
    """A large matrix product on random data, and a copy within the memory."""
    n = 256 if small else 8192
    left, right = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(n * n * (1 if small else 4), device=device)
    target = torch.empty_like(source)
    product = milliseconds(lambda: left @ right, 2 if small else 10, device)
    copy = milliseconds(lambda: target.copy_(source), 2 if small else 10, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    return {
        "device": name,
        "torch": torch.__version__,
        "tflops_bf16": round(2 * n**3 / product / 1e9, 2),
        "copy_tb_per_s": round(8 * source.numel() / copy / 1e9, 3),
    }


def mnist(
    report: Report, device: torch.device, data: dict[str, np.ndarray], seconds: float, methods: list[str], small: bool
) -> None:
    """NMM-EM and the three losses of DCAN without a start, seed by seed for so many seconds."""
    images, labels, _ = prepared(data)
    nmm = {"epochs": 25, "batch_size": 512, "views": {"size": 28}}
    cases = [("neural_mixture", nmm)]
    cases += [("dcan", {"epochs": 20, "loss": loss}) for loss in ("adversarial", "gaussian_kl", "euclidean")]
    cases = [case for case in cases if case[0] in methods]
    began, longest = time.perf_counter(), 0.0
    for seed in range(1 if small else 5):
        for method, own in cases:
            changes = own | ({"epochs": 2, "views": {"size": 8}} if small else {})
            before = time.perf_counter()
            if before - began + longest > seconds:
                return
            made = options("mnist", method, device=str(device), seed=seed, start={"kind": "none"}, **changes)
            estimator = make_method(made | {"record_every": made["epochs"]})
            fitted = watched_fit(estimator, images, seconds / 2, lambda *_: None)
            found = scores(fitted.predict(images), labels) if fitted else {"acc": None}
            took = time.perf_counter() - before
            longest = max(longest, took)
            report.add("mnist", method=method, seed=seed, **changes, took=round(took, 1), **found)


def cifar10(
    report: Report, device: torch.device, data: dict[str, np.ndarray], seconds: float, seed: int, small: bool
) -> None:
    """The two stages of cifar10_gpu in a number of seconds, with the trunk's 20-NN accuracy on the way."""
    images, labels, is_test = prepared(data)
    changes: dict[str, Any] = {"device": str(device), "seed": seed}
    if small:
        changes |= {"batch_size": 32, "precision": "fp32", "epochs": 2, "encoder": {"blocks": [1, 1], "width": 4}}
    made, again = (options("cifar10_gpu", name, **changes) for name in ("trunk", "self_labelled"))
    epoch = seconds_of_an_epoch(make_trunk(made), images, device)
    if not small:
        # Trials of the compiler, neighbours, heads, k-means and looks on the way took so much of one H200.
        made["epochs"] = int(np.clip((seconds - 100) / epoch - again["epochs"], 1, 1000))
    report.add("cifar10", seed=seed, seconds_of_an_epoch=round(epoch, 3), epochs=made["epochs"], rows=len(images))
    began = time.perf_counter()

    def say(stage: str, **figures: Any) -> None:  # noqa: ANN401
        report.add("cifar10", seed=seed, stage=stage, seconds=round(time.perf_counter() - began, 1), **figures)

    def look(training: Any, done: int) -> None:  # noqa: ANN401
        if done % max(1, made["epochs"] // 4) == 0 and done < made["epochs"]:
            embedded = training._data.apply(training.networks["encoder"].eval())
            say("learning", epoch=done, knn=round(neighbour_accuracy(embedded, labels, is_test), 4))

    trunk = watched_fit(make_trunk(made), images, 1.15 * seconds, look)
    if trunk is None:
        say("ended, out of time")
        return
    features = torch.from_numpy(trunk.embed(images)).to(device)
    say("learned", knn=round(neighbour_accuracy(features, labels, is_test), 4))
    found = on_trunk(say, features, labels, is_test, {"device": str(device), "seed": seed}, small)
    given = Given(most_certain(found.assignments, found.log_odds, again["start"]["core"]), trunk.get_arrays())
    labelled = make_method(again).fit(images, given=given).predict(images)
    say("self_labelled", **scores(labelled, labels), acc_of_test_rows=scores(labelled[is_test], labels[is_test])["acc"])


class Found(NamedTuple):
    """Clusters of rows, and how much likelier each is than the next."""

    assignments: np.ndarray
    log_odds: np.ndarray


def on_trunk(
    say: Callable[..., None],
    features: torch.Tensor,
    labels: np.ndarray,
    is_test: np.ndarray,
    changes: dict[str, Any],
    small: bool,
) -> Found:
    """K-means on the embeddings of a trunk, and heads of NMM-EM with nearest rows as views."""
    unit = F.normalize(features - features.mean(dim=0), dim=1)
    k = min(NEIGHBOURS, len(unit) - 1)
    nearest = torch.cat([(part @ unit.T).topk(k + 1, dim=1).indices[:, 1:] for part in unit.split(2000)]).cpu().numpy()
    rows = unit.cpu().numpy()
    say("neighbours", purity=round(float((labels[nearest] == labels[:, None]).mean()), 4))
    few = {"seed": changes["seed"], "n_init": 5}
    say(
        "kmeans",
        **scores(make_method(options("cifar10_gpu", "kmeans_on_trunk", **few)).fit(rows).predict(rows), labels),
    )
    changes = changes | ({"epochs": 2, "batch_size": 32} if small else {})
    said = make_method(options("cifar10_gpu", HEADS, **changes)).fit(rows, nearest).describe(rows)
    own = said.assignments
    say(HEADS, **scores(own, labels), acc_of_test_rows=scores(own[is_test], labels[is_test])["acc"])
    return Found(own, log_odds(own, said.log_responsibilities))


def watched_fit(estimator: Any, images: np.ndarray, seconds: float, look: Callable[[Any, int], None]) -> Any:  # noqa: ANN401
    """A fit that is given up behind its seconds (then None), with a look at the training behind each epoch."""
    make, deadline = estimator.training, time.perf_counter() + seconds

    def watched(data: Any) -> Any:  # noqa: ANN401
        training = make(data)
        close = training.close_epoch

        def close_epoch(epoch: int) -> Any:  # noqa: ANN401
            wait_for(data.rows.device)
            if time.perf_counter() > deadline:
                raise TimeIsUp
            look(training, epoch)
            return close(epoch)

        training.close_epoch = close_epoch
        return training

    estimator.training = watched
    try:
        return estimator.fit(images)
    except TimeIsUp:
        return None


def seconds_of_an_epoch(estimator: Any, images: np.ndarray, device: torch.device) -> float:  # noqa: ANN401
    """By captured steps on the rows themselves, on CUDA with the network compiled if that works."""
    on_cuda = device.type == "cuda"
    with full_single_precision(device):
        bench = Bench(estimator, "bf16" if on_cuda else "fp32", images, device)
        try:
            with in_use(bench.training.network, torch.compile(bench.training.network.forward) if on_cuda else None):
                steps = bench.captured()
        except REFUSALS:
            steps = bench.captured()
        one = milliseconds(lambda: bench.advance(steps), 20 if on_cuda else 1, device)
    return 1e-3 * one * bench.data.n_steps(estimator.batch_size, 1)


def prepared(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images in [0, 1] as float32, labels, and which rows are of the test set."""
    images = data["images"] if data["images"].ndim == 4 else data["images"][:, None]
    labels = data["labels"].astype(np.int64)
    is_test = data["is_test"].astype(bool) if "is_test" in data else np.arange(len(labels)) % 6 == 0
    return images.astype(np.float32) / np.float32(255), labels, is_test


def main(arguments: list[str] | None = None) -> Report:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="parity,steps,mnist,cifar10", help="sections, separated by commas")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the training on CIFAR-10")
    parser.add_argument("--mnist-seconds", type=float, default=60.0, help="of all trainings on MNIST")
    parser.add_argument("--mnist-methods", default="neural_mixture,dcan", help="those on MNIST, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="of the training on CIFAR-10")
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the file itself")
    chosen = parser.parse_args(arguments)
    report, device, wanted = Report(chosen.out), torch.device(chosen.device), chosen.only.split(",")
    if "parity" in wanted:
        parity(report, device, chosen.small)
    if "steps" in wanted:
        with full_single_precision(device):
            steps(report, device, chosen.small)
    if "mnist" in wanted and chosen.mnist:
        methods = chosen.mnist_methods.split(",")
        mnist(report, device, dict(np.load(chosen.mnist)), chosen.mnist_seconds, methods, chosen.small)
    if "cifar10" in wanted and chosen.cifar10:
        cifar10(report, device, dict(np.load(chosen.cifar10)), chosen.seconds, chosen.seed, chosen.small)
    return report


if __name__ == "__main__":
    main()
