"""Seconds of bringing a folder of small images to shards, and of one thread that decodes them and does nothing else.

    python benchmarks/image_folder.py --files 20000 --size 64,48 --side 32

JPEG files of a size become square and in colour. "Decode alone" is one thread over every tenth file, times ten.
"Shards" are made by a process for each processor, their start included; a second process is killed when it has made
some, and what a third does is counted. Times are on the wall, in brackets those of the processor: on a machine with
other work only these can be compared.
"""

import argparse
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from deep_clustering.data.sources import image_files
from deep_clustering.data.sources.image_shards import Folder, read_in_shards

_STEP = 10


def write_images(root: Path, n_files: int, size: tuple[int, int]) -> None:
    """Coarse noise with one pixel that tells files apart."""
    width, height = size
    coarse = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    for index in range(n_files):
        folder = root / f"{index // 1000:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(coarse[index % 200]).resize(size)
        image.putpixel((index % width, index // width % height), (index % 256, 9, 9))
        image.save(folder / f"{index:07d}.jpg")


def open_folder(root: Path, side: int) -> Folder:
    """All images, as a source reads them."""
    return Folder(root, image_files.find_images(root, ["jpg"]).images, (side, side), 3, "crop", {})


def decode_alone(folder: Folder) -> tuple[float, float]:
    """Seconds on the wall and of the processor for all files, by every tenth of them."""
    files = folder.files[::_STEP]
    images = np.empty((len(files), 3, *folder.shape), dtype=np.uint8)
    began, spent = time.perf_counter(), time.process_time()
    with image_files.bombs_are_errors():
        image_files.decode_into(images, range(len(files)), folder.root, files, folder.fit, folder.ranges)
    share = len(folder.files) / len(files)
    return (time.perf_counter() - began) * share, (time.process_time() - spent) * share


def kill_and_resume(folder: Folder, cache: Path) -> tuple[int, float]:
    """Shards that a killed process left, and seconds of one that goes on; no shard is made twice."""
    words = [sys.executable, __file__, "--shards", str(folder.root), str(cache), "--side", str(folder.shape[0])]
    with subprocess.Popen(words) as process:
        while len(list(cache.glob("*/*.npz"))) < len(folder.spans()) // 2:
            time.sleep(0.05)
        process.kill()
    time.sleep(1)  # its workers end by themselves
    kept = {path: path.stat().st_mtime_ns for path in cache.glob("*/*.npz")}
    began = time.perf_counter()
    read_in_shards(folder, cache)
    seconds = time.perf_counter() - began
    if any(path.stat().st_mtime_ns != made for path, made in kept.items()):
        raise RuntimeError("a finished shard was made again")
    return len(kept), seconds


def of_children() -> float:
    """Processor time of the processes that have ended, in seconds."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    """Measure, one thing after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--size", default="64,48", help="width and height of the files")
    parser.add_argument("--side", type=int, default=32, help="of the images that they become")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--shards", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    if chosen.shards:
        read_in_shards(open_folder(chosen.shards[0], chosen.side), chosen.shards[1])
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "images"
        width, height = map(int, chosen.size.split(","))
        write_images(root, chosen.files, (width, height))
        folder = open_folder(root, chosen.side)
        n_shards = len(folder.spans())
        for turn in range(chosen.turns):
            wall, processor = decode_alone(folder)
            began, before = time.perf_counter(), of_children()
            images, _, _ = read_in_shards(folder, Path(name) / f"cache-{turn}")
            seconds = time.perf_counter() - began
            print(
                f"{len(images)} files: decode alone, one thread {wall:.1f} s ({processor:.1f}); "
                f"{n_shards} shards by {image_files.cores()} processes {seconds:.1f} s ({of_children() - before:.1f})"
                f", {wall / seconds:.2f} times as fast",
                flush=True,
            )
        began = time.perf_counter()
        read_in_shards(folder, Path(name) / "cache-0")
        print(f"read again: {time.perf_counter() - began:.1f} s")
        kept, seconds = kill_and_resume(folder, Path(name) / "cache-killed")
        print(f"killed behind {kept} of {n_shards} shards, the rest in {seconds:.1f} s, none of those made again")


if __name__ == "__main__":
    main()
