"""Raw files on the disk: where they are, what to do if they are not, and downloads that are whole or nothing."""

import hashlib
import http.client
import logging
import tarfile
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deep_clustering.atomic import atomic_file
from deep_clustering.data.places import absolute
from deep_clustering.training.progress import Reading, meter

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file on the network."""

    urls: tuple[str, ...]
    """Mirrors, tried in this order."""
    md5: str
    """Published checksum, hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A `.tar.gz` on the network with the files of a data set in one folder."""

    name: str
    """File name of the archive."""
    folder: str
    """The folder in it."""
    remote: Remote
    """Where it is."""


def raw_folder(root: str) -> Path:
    """The absolute path of an option `root`."""
    return absolute(root)


def find_files(
    folders: Sequence[Path], names: Iterable[str], suffixes: Sequence[str] = ("",)
) -> tuple[dict[str, Path], list[str]]:
    """Look for files.

    Args:
        folders: Where they may be, the likeliest first.
        names: What they are called.
        suffixes: What may follow the name, the likeliest first.

    Returns:
        found: the first file of each name.
        missing: names without a file.
    """
    found, missing = {}, []
    for name in names:
        paths = (folder / f"{name}{suffix}" for folder in folders for suffix in suffixes)
        file = next((path for path in paths if path.is_file()), None)
        if file is None:
            missing.append(name)
        else:
            found[name] = file
    return found, missing


def missing_files(folder: Path, names: Sequence[str], note: str = "") -> FileNotFoundError:
    """The error for files that are not there and may not be downloaded.

    Args:
        folder: Where they should be.
        names: What is missing.
        note: What else would do.

    Returns:
        The error, to be raised by the caller.
    """
    return FileNotFoundError(
        f"ingestion: no {', '.join(names)} in {folder}{note}. Put the files there, "
        "or allow the download: --params=ingestion.source.download=true"
    )


def obtain_archived(
    archive: Archive, root: Path, names: Sequence[str], download: bool, note: str = ""
) -> dict[str, Path]:
    """Find files that are published in an archive: unpacked, else in the archive, else on the network.

    Args:
        archive: Where the files come from.
        root: Holds the archive, and its folder or the files themselves.
        names: What is needed.
        download: Whether the archive may be downloaded.
        note: What else would do, for the message.

    Returns:
        The file of each name.

    Raises:
        FileNotFoundError: if files are missing and may not be downloaded.
        ConnectionError: if the download fails.
        ValueError: if the archive is damaged.
    """
    target = root / archive.folder
    found, missing = find_files((target, root), names)
    if not missing:
        return found
    file = root / archive.name
    if file.is_file():
        _check_md5(file, archive.remote.md5)
    elif download:
        fetch(archive.remote, file)
    else:
        raise missing_files(target, missing, f" or {root}, nor {archive.name} in {root}{note}")
    return found | unpack(file, archive.folder, missing, target)


def fetch(remote: Remote, file: Path) -> None:
    """Download a file under a temporary name and rename it when its checksum is right.

    Args:
        remote: Where it is.
        file: Where to put it; its folder is made.

    Raises:
        ConnectionError: if no mirror gave the whole file.
        ValueError: if what came has another checksum.
    """
    failures: list[Exception] = []
    for url in remote.urls:
        try:
            with atomic_file(file) as part:
                _download(url, part, remote.md5)
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(error)
    reasons = "; ".join(f"{url}: {error}" for url, error in zip(remote.urls, failures, strict=True))
    kind = ValueError if isinstance(failures[-1], ValueError) else ConnectionError
    raise kind(f"ingestion: {file} could not be downloaded, nothing was kept: {reasons}") from failures[-1]


def unpack(file: Path, folder: str, names: Iterable[str], target: Path) -> dict[str, Path]:
    """Take files out of a `.tar.gz`. Paths of the archive are only compared, never written to.

    Args:
        file: The archive.
        folder: The folder in it.
        names: Files of that folder to take.
        target: Where to put them.

    Returns:
        The file of each name.

    Raises:
        ValueError: if the archive is damaged or lacks a file.
    """
    wanted = {f"{folder}/{name}": target / name for name in names}
    taken = {}
    try:
        # One pass: to look for a member in a compressed archive means to decompress all that is before it.
        with tarfile.open(file, "r|gz") as archive:
            for member in archive:
                path = wanted.get(member.name.removeprefix("./"))
                source = archive.extractfile(member) if path and member.isreg() else None
                if path and source:
                    with atomic_file(path) as part:
                        _copy(source, part)
                    taken[path.name] = path
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(
            f"ingestion: {file}: expected a .tar.gz archive, got a file cut short or of another kind ({error})"
        ) from error
    missing = [name for name, path in wanted.items() if path.name not in taken]
    if missing:
        raise ValueError(f"ingestion: {file}: expected the files {', '.join(wanted)}; missing: {', '.join(missing)}")
    logger.info("ingestion: %d files unpacked to %s; %s is no longer needed", len(taken), target, file.name)
    return taken


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)


def _download(url: str, target: IO[bytes], md5: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "deep-clustering"})
    digest, n_bytes = hashlib.md5(usedforsecurity=False), 0
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        announced = int(response.headers.get("Content-Length") or 0)
        for chunk in _with_progress(response, announced, url.rsplit("/", 1)[-1]):
            target.write(chunk)
            digest.update(chunk)
            n_bytes += len(chunk)
    if announced and n_bytes != announced:
        raise ConnectionError(f"got {n_bytes} of {announced} bytes")
    if digest.hexdigest() != md5:
        raise ValueError(f"got {n_bytes} bytes with md5 {digest.hexdigest()}, expected md5 {md5}")


def _with_progress(response: IO[bytes], n_bytes: int, name: str) -> Iterator[bytes]:
    """The chunks of a download, counted on the way."""

    def text(reading: Reading) -> str:
        if not reading.total:
            return f"{reading.done / 1e6:.1f} MB"
        return f"{reading.done / 1e6:.1f} of {reading.total / 1e6:.1f} MB, {reading.left:.0f} s left"

    label = f"download of {name}"
    logger.info("%s: %.1f MB", label, n_bytes / 1e6)
    with meter(label, "B", n_bytes, text) as count:
        while chunk := response.read(_CHUNK):
            yield chunk
            count(len(chunk))


def _check_md5(file: Path, md5: str) -> None:
    with file.open("rb") as stream:
        got = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        raise ValueError(
            f"ingestion: {file}: expected md5 {md5}, got {got}; the file is cut short or of another kind, "
            "delete it to download it again"
        )
