"""Rows of images by a Ray cluster of two nodes of one processor each on this machine, against one process.

    python benchmarks/extraction_on_ray.py --images 16384 --pairs 3

Both have one thread each and take turns, with caches of their own. Said is the time of each on the wall and of the
processor, in all processes of the cluster, that of connecting and of the workers' start included, but not that of the
cluster's; and whether all rows are equal, bit for bit. Where somebody else uses the machine the wall says nothing; the
processor's ratio, twice the time of one process by that of all, is what two idle cores would give if nobody waited.
Images are random, and so are the weights of the network, which changes neither.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from ray.cluster_utils import Cluster

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.pretrained import extract_rows
from deep_clustering.options import build
from step_time import parameters

SMALL = {"object_store_memory": 200 * 2**20}


class Clock(threading.Thread):
    """Processor time of this process and of all below it; Ray's workers end with what they have spent."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seconds: dict[object, float] = {}
        self._look()
        self.start()

    def _look(self) -> None:
        import psutil  # Ray brings it, and says where it is when it is imported

        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                self._seconds[process] = sum(process.cpu_times()[:2])

    def run(self) -> None:
        """Look five times a second, until the process ends."""
        while True:
            time.sleep(0.2)
            self._look()

    def now(self) -> np.ndarray:
        """Seconds on the wall, and of the processor."""
        return np.array([time.perf_counter(), sum(list(self._seconds.values()))])


def extracted(images: np.ndarray, options: FeatureOptions, clock: Clock) -> tuple[np.ndarray, np.ndarray]:
    """Seconds that an extraction takes, and its rows."""
    with tempfile.TemporaryDirectory() as folder:
        began = clock.now()
        rows = extract_rows(images, (0, 255), "0" * 64, replace(options, cache=folder))
        return clock.now() - began, rows


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=16_384)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (chosen.images, 3, 32, 32), np.uint8)
    changes = {"backbone": chosen.backbone, "weights": "random", "size": chosen.size, "precision": "fp32"}
    options = build(FeatureOptions, parameters()["features"] | changes | {"device": "cpu"}, "features")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **SMALL})
    cluster.add_node(num_cpus=1, **SMALL)
    os.environ["RAY_ADDRESS"] = cluster.address
    ratios, clock = [], Clock()
    for _ in range(chosen.pairs):
        here, rows = extracted(images, options, clock)
        there, others = extracted(images, replace(options, launcher="ray"), clock)
        ratios.append((here[0] / there[0], 2 * here[1] / there[1]))
        equal = "equal" if np.array_equal(rows, others) else "DIFFERENT"
        both = "one process {:.1f} s ({:.1f} of the processor), Ray {:.1f} ({:.1f})".format(*here, *there)
        print(f"{both}, rows {equal}", flush=True)
    for name, found in zip(("wall", "processor"), zip(*ratios, strict=True), strict=True):
        print(f"{name}: median {statistics.median(found):.2f}, from {min(found):.2f} to {max(found):.2f}")
    cluster.shutdown()


if __name__ == "__main__":
    main()
