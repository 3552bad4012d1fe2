"""A server under mixed load on the loopback: clients at once, good and bad requests; JSON out.

    python benchmarks/serving_load.py predictor.safetensors --rounds 4

Clients are threads of one process of their own; each sends so many requests one after the other, of kinds that a seed
draws, and every good answer is compared with that of the predictor in this process. Server and clients share the cores.
What is served is a copy, whose file is cut, swapped for another kind of file, removed and put back all the while.
Afterwards as many threads as there were clients ask the predictor in this process at once.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

HOST = "127.0.0.1"
MIB = 2**20

# Kinds of requests, how often each comes, and the statuses that are right.
KINDS = {
    "good": (70, {200}),
    "good, 1,000 rows": (10, {200}),
    "malformed": (6, {400}),
    "nested 50,000 deep": (4, {400}),
    "wrong shape": (4, {400}),
    "oversized": (1, {413}),
    "slow": (2, {200}),
    "aborted": (3, {0}),
}


# Commands that serve a model.
SERVERS = {
    "kedro": ["kedro", "serve", "{model}", "--port", "{port}", "--workers", "{workers}"],
    "mlflow": [
        *("mlflow", "models", "serve", "--env-manager", "local", "--host", HOST),
        *("--model-uri", "{model}", "--port", "{port}", "--workers", "{workers}"),
    ],
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="file of a predictor, or folder of a logged model, of 8 x 8 digits")
    parser.add_argument("--clients", type=int, default=50, help="at once (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=100, help="of each client (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of so many requests (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer (default: %(default)s)")
    parser.add_argument(
        "--server", choices=SERVERS, default="kedro", help="mlflow's own needs the folder (default: %(default)s)"
    )
    parser.add_argument("--oversized", type=int, default=100, help="MiB of an oversized body (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=600, help="of a round; none begins after (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


@contextmanager
def serve(model: Path, workers: int, server: str) -> Iterator[tuple[int, int]]:
    """Start the server; gives its port and the id of its process."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    said = [word.format(model=model, port=port, workers=workers) for word in SERVERS[server]]
    words = [sys.executable, "-m", *said]
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                with suppress(OSError), socket.create_connection((HOST, port), 1):
                    break
                time.sleep(0.1)
            yield port, process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def beside(work: Callable[[Event], None]) -> Iterator[None]:
    """Let a thread work meanwhile, until the event that it is given is set."""
    ended = Event()
    thread = Thread(target=work, args=(ended,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def disturbed(model: Path) -> Iterator[None]:
    """Cut the files of a model, swap them for others, remove them and put them back, over and over."""
    files = [model] if model.is_file() else [path for path in model.rglob("*") if path.is_file()]
    whole = {path: path.read_bytes() for path in files}

    def disturb(ended: Event) -> None:
        while not ended.is_set():
            for change in (lambda content: content[: len(content) // 2], lambda content: b"{}", None, bytes):
                for path, content in whole.items():
                    path.unlink(missing_ok=True) if change is None else path.write_bytes(change(content))
                ended.wait(0.25)

    with beside(disturb):
        yield


@contextmanager
def peak_of(session: int, noted: list[float]) -> Iterator[None]:
    """Append the most memory that the server's processes had meanwhile, in MiB, looking five times a second."""
    seen = [0.0]

    def look(ended: Event) -> None:
        while not ended.wait(0.2):
            seen.append(memory_of(session))

    try:
        with beside(look):
            yield
    finally:
        noted.append(max(seen))


def memory_of(session: int) -> float:
    """Resident memory of the server's processes, in MiB; as Linux tells it."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == session else 0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def exchange(port: int, head: str, parts: list[bytes], pause: float = 0.0) -> tuple[int, bytes]:
    """Status and body of an answer; a client that sends in parts waits between them."""
    with socket.create_connection((HOST, port), 120) as connection:
        connection.sendall(head.encode())
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), body


def head_of(n_bytes: int) -> str:
    """Head of a request."""
    return (
        f"POST /invocations HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {n_bytes}\r\n\r\n"
    )


class Client:
    """Sends what it draws and notes what came of it."""

    def __init__(self, port: int, bodies: dict[str, Any], expected: np.ndarray, seed: int) -> None:
        self._port, self._bodies, self._expected, self._random = port, bodies, expected, random.Random(seed)
        self.noted: list[tuple[str, int, float, bool]] = []

    def send(self, kind: str) -> None:
        """One request of a kind, and a line on it: kind, status, seconds, whether the answer was wrong."""
        start = self._random.randrange(len(self._expected) - 10)
        rows, body = 10, self._bodies.get(kind, b"")
        if kind in ("good", "slow"):
            body = json.dumps({"inputs": self._bodies["rows"][start : start + rows]}).encode()
        elif kind == "good, 1,000 rows":
            start, rows = 0, 1000
        began = time.perf_counter()
        status, answer = self._exchange(kind, body)
        seconds = time.perf_counter() - began
        wrong = (
            status == 200
            and [one["cluster"] for one in json.loads(answer)["predictions"]]
            != self._expected[start : start + rows].tolist()
        )
        self.noted.append((kind, status, seconds, wrong))

    def _exchange(self, kind: str, body: bytes) -> tuple[int, bytes]:
        try:
            if kind == "aborted":
                with socket.create_connection((HOST, self._port), 60) as connection:
                    connection.sendall(head_of(10**6).encode() + b"1" * 10_000)
                return 0, b""
            if kind == "slow":
                step = len(body) // 10 + 1
                parts = [body[at : at + step] for at in range(0, len(body), step)]
                return exchange(self._port, head_of(len(body)), parts, pause=0.3)
            return exchange(self._port, head_of(len(body)), [body])
        except (OSError, IndexError, ValueError) as error:
            return -1, repr(error).encode()

    def work(self, n_requests: int, deadline: float) -> None:
        """Send so many requests, none after the deadline."""
        names, weights = list(KINDS), [share for share, _ in KINDS.values()]
        for kind in self._random.choices(names, weights, k=n_requests):
            if time.monotonic() < deadline:
                self.send(kind)


def drive(port: int, chosen: argparse.Namespace, expected: np.ndarray, answers: Any) -> None:  # noqa: ANN401
    """All clients, in a process of their own."""
    rows = load_digits().images.astype(np.uint8).tolist()
    bodies = {
        "rows": rows,
        "good, 1,000 rows": json.dumps({"inputs": rows[:1000]}).encode(),
        "malformed": b'{"inputs": [[0, 1',
        "nested 50,000 deep": b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        "wrong shape": json.dumps({"inputs": [[0] * 63]}).encode(),
        "oversized": b" " * (chosen.oversized * MIB),
    }
    clients = [Client(port, bodies, expected, chosen.seed + index) for index in range(chosen.clients)]
    deadline = time.monotonic() + chosen.seconds
    threads = [Thread(target=client.work, args=(chosen.requests, deadline)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put([line for client in clients for line in client.noted])


def summary(noted: list[tuple[str, int, float, bool]], seconds: float) -> dict[str, Any]:
    """What came of the requests, by kind."""
    kinds = {}
    for kind, (_, right) in KINDS.items():
        times = [took for name, _, took, _ in noted if name == kind]
        statuses = Counter(status for name, status, _, _ in noted if name == kind)
        kinds[kind] = {
            "requests": len(times),
            "statuses": {str(status): count for status, count in sorted(statuses.items())},
            "unexpected": sum(count for status, count in statuses.items() if status not in right),
            "p50_ms": round(1000 * float(np.quantile(times, 0.5)), 1) if times else None,
            "p99_ms": round(1000 * float(np.quantile(times, 0.99)), 1) if times else None,
        }
    n_rows = sum({"good": 10, "slow": 10}.get(kind, 1000) for kind, status, _, _ in noted if status == 200)
    return {
        "seconds": round(seconds, 1),
        "requests_per_second": round(len(noted) / seconds, 1),
        "rows_per_second": round(n_rows / seconds),
        "wrong_answers": sum(wrong for *_, wrong in noted),
        "kinds": kinds,
    }


def ask_in_process(assigner: Any, images: np.ndarray, expected: np.ndarray, n_threads: int) -> dict[str, int]:  # noqa: ANN401
    """Answers of a predictor that threads ask at once."""

    def is_wrong(start: int) -> bool:
        found = assigner.assign(images[start : start + 10])["cluster"].to_numpy()
        return bool((found != expected[start : start + 10]).any())

    with ThreadPoolExecutor(n_threads) as pool:
        wrong = list(pool.map(is_wrong, range(len(images) - 10)))
    return {"requests": len(wrong), "wrong_answers": sum(wrong)}


def drive_apart(port: int, chosen: argparse.Namespace, expected: np.ndarray) -> dict[str, Any]:
    """One round of all clients; what came of it."""
    context = multiprocessing.get_context("spawn")
    answers, began = context.Queue(), time.perf_counter()
    clients = context.Process(target=drive, args=(port, chosen, expected, answers))
    clients.start()
    noted = answers.get()
    clients.join()
    return summary(noted, time.perf_counter() - began)


def main() -> None:
    """Warm up, measure, print JSON."""
    from deep_clustering.inference.predictor import Assigner
    from deep_clustering.inference.stored import read_predictor

    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server ends, too
    images = load_digits().images.astype(np.uint8)
    assigner = Assigner(read_predictor(Path.cwd(), str(chosen.model))[0])
    expected = assigner.assign(images)["cluster"].to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / chosen.model.name
        (shutil.copytree if chosen.model.is_dir() else shutil.copy)(chosen.model, copy)
        with serve(copy, chosen.workers, chosen.server) as (port, pid), disturbed(copy):
            memory, rounds = [memory_of(pid)], []
            peaks: list[float] = []
            for _ in range(chosen.rounds):  # the first one's rest is the server's working memory, no later one may add
                with peak_of(pid, peaks):
                    rounds.append(drive_apart(port, chosen, expected))
                memory.append(memory_of(pid))
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    settings = {"server": chosen.server, "clients": chosen.clients, "workers": chosen.workers, "machine": machine}
    measured = {"memory_mib": [round(one) for one in memory], "peak_mib": [round(one) for one in peaks]}
    in_process = ask_in_process(assigner, images, expected, chosen.clients)
    print(json.dumps({**settings, **measured, "in_process": in_process, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
