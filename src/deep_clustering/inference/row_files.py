"""New rows in files and folders, in pieces: what is wrong with them as a whole is said before the first piece."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from deep_clustering.data.preparation import Preparation
from deep_clustering.data.sources.array_files import SUFFIXES as ARRAYS
from deep_clustering.data.sources.array_files import array_names, is_sparse_file, read_array
from deep_clustering.data.sources.array_headers import Header
from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.image_files import EXTENSIONS, find_images, printable, read_images
from deep_clustering.data.sources.prepared import read_sparse
from deep_clustering.data.sources.row_ids import numbered
from deep_clustering.data.sources.tables import SUFFIXES as TABLES
from deep_clustering.inference.raw_rows import check_shape, expected_rows, is_image
from deep_clustering.inference.row_tables import TablePiece, open_row_table
from deep_clustering.options import nearest_file

logger = logging.getLogger(__name__)

_NAMED_FILES = 5
_KNOWN = (*ARRAYS, *TABLES)
_IMAGES = tuple(f".{extension}" for extension in EXTENSIONS)


class Piece(NamedTuple):
    """Some of the rows."""

    ids: Sequence[Any]
    """Row numbers from 0, ids of a table's column, or paths of files relative to their folder."""
    rows: Any
    """Those that could be read, in a form that `as_samples` takes; there may be none."""
    skipped: Mapping[int, str]
    """Places in `ids` of the others, with the reason."""


class Unread(NamedTuple):
    """Some of the rows, which nobody has asked for yet."""

    n_rows: int
    read: Callable[[], Piece]


def open_rows(path: Path, preparation: Preparation, n_rows: int) -> Iterator[Piece]:
    """Look at new rows, and give them piece by piece, see `open_unread`."""
    return (piece.read() for piece in open_unread(path, preparation, n_rows))


def open_unread(path: Path, preparation: Preparation, n_rows: int) -> Iterator[Unread]:
    """Look at new rows, and give them in pieces, of which those of images and arrays cost nothing until they are read.

    Args:
        path: A `.npy` or `.npz` array, a sparse `.npz` of scipy, a table `.csv`, `.tsv`, `.parquet` or `.jsonl`, an
            image, or a folder: of images if the model takes images, else of arrays and tables.
        preparation: What rows the model takes; its `reading` says how they are read.
        n_rows: Most rows in a piece.

    Returns:
        The pieces in order. Behind the last one it is said which of the images that were read could not be decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is of another kind or damaged, empty, or of rows of another shape.
    """
    check_input(path)
    if path.is_dir():
        return _folder_pieces(path, preparation, n_rows)
    if _ends_like_an_image(path):
        _refuse_images(path, preparation)
        return _decoded(path.parent, {path.name: None}, preparation, n_rows)
    return _file_pieces(path, preparation, n_rows)


def check_input(path: Path) -> None:
    """Refuse what is neither a folder nor a file of a known kind.

    Args:
        path: What was named.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is a pipe, socket or device, which may never end, or its ending is not known.
    """
    if not path.exists():
        raise FileNotFoundError(f"predict: no file or folder at {path}{nearest_file(path)}")
    if not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path}: expected a folder or a file, got a pipe, socket or device")
    if path.is_file() and plain_suffix(path) not in _KNOWN and not _ends_like_an_image(path):
        raise ValueError(f"{path}: expected a folder of images, an image, or a file that ends in {', '.join(_KNOWN)}")


def _ends_like_an_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGES


def _file_pieces(path: Path, preparation: Preparation, n_rows: int) -> Iterator[Unread]:
    if path.suffix.lower() in ARRAYS:
        rows = _read_array(path, preparation)
        return (_array_piece(rows, start, n_rows) for start in range(0, rows.shape[0], n_rows))
    return _table_pieces(path, preparation, n_rows)


def _read_array(path: Path, preparation: Preparation) -> Any:  # noqa: ANN401 - dense or CSR
    def check(header: Header) -> None:
        try:
            check_shape(preparation, header.shape)
        except ValueError as error:
            raise ValueError(f"predict: {path}: {error}") from error

    if is_sparse_file(path):
        return read_sparse(path, check)[0]
    # An archive of one array needs no name, whatever it was in training.
    key = preparation.reading.get("key") if len(array_names(path)) > 1 else None
    return read_array(path, "rows", key, besides=preparation.reading.get("besides"), check=check)


def _array_piece(rows: Any, start: int, n_rows: int) -> Unread:  # noqa: ANN401
    stop = min(start + n_rows, rows.shape[0])
    return Unread(stop - start, lambda: Piece(range(start, stop), rows[start:stop], {}))


def _folder_pieces(root: Path, preparation: Preparation, n_rows: int) -> Iterator[Unread]:
    extensions = preparation.reading.get("extensions", EXTENSIONS)
    if is_image(preparation):
        found = find_images(root, extensions)
        if found.images or found.unreadable:
            _refuse_images(root, preparation)
            return _decoded(root, dict.fromkeys(found.images) | found.unreadable, preparation, n_rows)
    files = find_images(root, _KNOWN).images
    if not files:
        if not is_image(preparation):
            raise ValueError(
                f"predict: no file below {root} ends in {', '.join(_KNOWN)}; expected {expected_rows(preparation)}"
            )
        raise ValueError(f"predict: no images below {root}; expected names that end in {', '.join(extensions)}")
    return chain.from_iterable(_named(root, file, preparation, n_rows) for file in files)


def _named(root: Path, file: str, preparation: Preparation, n_rows: int) -> Iterator[Unread]:
    """Pieces of one file of several, whose name goes before the number of each row."""

    def named(unread: Unread) -> Piece:
        piece = unread.read()
        return piece._replace(ids=[f"{printable(file)}:{row}" for row in piece.ids])

    for unread in _file_pieces(root / file, preparation, n_rows):
        yield Unread(unread.n_rows, partial(named, unread))


def _refuse_images(path: Path, preparation: Preparation) -> None:
    """Files of images become bytes: another model would take them for what they are not."""
    if not is_image(preparation) or preparation.dtype != "uint8":
        kind = "a folder of images" if path.is_dir() else "an image"
        raise ValueError(f"predict: {path} is {kind}; expected {expected_rows(preparation)}")


def _decoded(root: Path, files: Mapping[str, str | None], preparation: Preparation, n_rows: int) -> Iterator[Unread]:
    """Images of these files, in the order of their paths; with a reason those that are known to be unreadable."""
    channels, height, width = preparation.row_shape
    unreadable: dict[str, str] = {}
    paths = sorted(files)

    def read(asked: Sequence[str]) -> Piece:
        images, _, damaged = read_images(
            root,
            [file for file in asked if files[file] is None],
            shape=(height, width),
            channels=channels,
            fit=preparation.fit,
            ranges=preparation.reading.get("grey_ranges"),
        )
        names = [printable(file) for file in asked]
        damaged |= {file: reason for file in asked if (reason := files[file]) is not None}
        unreadable.update(damaged)
        return Piece(names, images, {place: damaged[name] for place, name in enumerate(names) if name in damaged})

    for start in range(0, len(paths), n_rows):
        asked = paths[start : start + n_rows]
        yield Unread(len(asked), partial(read, asked))
    _report(root, unreadable, len(paths), preparation.reading.get("on_error") == "refuse")


def _report(root: Path, unreadable: Mapping[str, str], n_files: int, is_refused: bool) -> None:
    if not unreadable:
        return
    named = "; ".join(f"{file}: {reason}" for file, reason in list(unreadable.items())[:_NAMED_FILES])
    message = f"{len(unreadable)} of {n_files} images below {root} cannot be read ({named})"
    if len(unreadable) == n_files:
        raise ValueError(f"predict: {message}; nothing is left")
    if is_refused:
        raise ValueError(f"predict: {message}; repair or remove them, or set predict.on_error=skip")
    logger.warning("%s; they get no cluster", message)


def _table_pieces(path: Path, preparation: Preparation, n_rows: int) -> Iterator[Unread]:
    return _numbered(open_row_table(path, preparation, n_rows))


def _numbered(pieces: Iterable[TablePiece]) -> Iterator[Unread]:
    start = 0
    for piece in pieces:
        stop = start + piece.n_rows
        named = zip(piece.ids, range(start, stop), strict=False)
        ids = [name or numbered(row) for name, row in named] if piece.ids else range(start, stop)
        yield Unread(piece.n_rows, partial(Piece, ids, piece.rows, piece.skipped))
        start = stop
