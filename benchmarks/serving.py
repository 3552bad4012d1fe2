"""How many rows a second a logged model assigns: in this process, and behind MLflow's server on the loopback.

    python benchmarks/serving.py --model models:/digits-dcan@champion

The server runs in a process of its own with one worker; both sides share the cores of the machine.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import mlflow
import numpy as np
from sklearn.datasets import load_digits


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models:/digits-dcan@champion", help="as MLflow names it")
    parser.add_argument("--store", default="sqlite:///mlflow.db", help="MLflow's store (default: %(default)s)")
    parser.add_argument("--rows", type=Path, help=".npy of raw rows; default: the digits of scikit-learn")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 1000], help="rows at a time (default: 1 1000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table (default: %(default)s)")
    return parser.parse_args()


def measure(predict: Callable[[np.ndarray], object], rows: np.ndarray, n_rows: int, seconds: float) -> float:
    """Median time of a call with so many rows, in seconds."""
    batch = np.concatenate([rows] * (1 + n_rows // len(rows)))[:n_rows]
    for _ in range(3):
        predict(batch)
    times: list[float] = []
    while sum(times) < seconds:
        started = time.perf_counter()
        predict(batch)
        times.append(time.perf_counter() - started)
    return median(times)


@contextmanager
def serve(model: str) -> Iterator[Callable[[np.ndarray], object]]:
    """Start the server, and give a function that posts rows to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    url = f"http://127.0.0.1:{port}"

    def post(rows: np.ndarray) -> object:
        body = json.dumps({"inputs": rows.tolist()}).encode()
        request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, env=os.environ | paths, start_new_session=True, **quiet) as process:
        try:
            while process.poll() is None:
                with suppress(OSError), urllib.request.urlopen(f"{url}/ping"):
                    break
                time.sleep(0.1)
            yield post
        finally:
            os.killpg(process.pid, 15)


def main() -> None:
    """Print a line for each way and number of rows."""
    chosen = arguments()
    os.environ["MLFLOW_TRACKING_URI"] = chosen.store
    mlflow.set_tracking_uri(chosen.store)
    rows = load_digits().images.astype(np.uint8) if chosen.rows is None else np.load(chosen.rows, allow_pickle=False)
    print("| way | rows at a time | ms per call | rows per second |\n|---|---|---|---|")
    with serve(chosen.model) as post:
        for way, predict in (("in process", mlflow.pyfunc.load_model(chosen.model).predict), ("HTTP", post)):
            for n_rows in chosen.batches:
                seconds = measure(predict, rows, n_rows, chosen.seconds)
                print(f"| {way} | {n_rows} | {1000 * seconds:.2f} | {n_rows / seconds:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
