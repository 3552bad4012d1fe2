"""Tables, texts and plain values: the classes of kedro-datasets, made atomic."""

import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from kedro.io import AbstractDataset, DatasetError

from deep_clustering.data.datasets.base import AtomicDataset, JSONPreview, TablePreview, if_saved

_PREVIEW_ROWS = 100
_LINK = re.compile(r'<a href="([^"]*/)THIS_VERSION/([^"]*)">([^<]*)</a>')
_NO_LINKS = re.compile(r"<nav[^>]*>(?:(?!<a |</nav>).)*</nav>\n?", re.DOTALL)


class LibraryDataset(AtomicDataset):
    """A dataset of kedro-datasets, which has no versions here and only ever sees whole files or its own part."""

    definition: ClassVar[Mapping[str, Any]]
    """What a catalog would say of it, without the place: `type` and its options."""

    def _write(self, data: Any, path: str) -> None:  # noqa: ANN401
        with _bare_errors():
            self._at(path).save(data)

    def _read(self, path: str) -> Any:  # noqa: ANN401
        with _bare_errors():
            return self._at(path).load()

    def _at(self, path: str) -> AbstractDataset:
        fs_args = {**self.definition.get("fs_args", {}), **(self._access["fs_args"] or {})}
        place = {
            "filepath": path if self._is_local() else f"{self._protocol}://{path}",
            "credentials": self._access["credentials"],
            "fs_args": fs_args,
        }
        return AbstractDataset.from_config(self.kind, {**self.definition, **place})


class JSONDataset(LibraryDataset):
    """Plain values as `.json`; not-a-number is refused, since JSON has none."""

    kind = "JSON"
    definition: ClassVar = {
        "type": "json.JSONDataset",
        "save_args": {"indent": 1, "allow_nan": False},
        "fs_args": {"open_args_load": {"mode": "rb"}},  # the reader tells UTF-8 from UTF-16 by itself
    }

    @if_saved
    def preview(self) -> JSONPreview:
        """The content, for Kedro-Viz."""
        return JSONPreview(json.dumps(self.load()))


class ScoresDataset(LibraryDataset):
    """The scores of a run as `.json`."""

    kind = JSONDataset.kind
    definition: ClassVar = JSONDataset.definition

    @if_saved
    def preview(self) -> TablePreview:
        """The metrics, for Kedro-Viz."""
        metrics = self.load()["metrics"]
        rows = [[name, value] for name, value in metrics.items()]
        return TablePreview({"index": list(range(len(rows))), "columns": ["metric", "value"], "data": rows})


class TextDataset(LibraryDataset):
    """Text as UTF-8, with the ends of lines that it has."""

    kind = "UTF-8 text"
    definition: ClassVar = {
        "type": "text.TextDataset",
        "fs_args": {
            "open_args_save": {"mode": "w", "encoding": "utf-8", "newline": ""},
            "open_args_load": {"mode": "r", "encoding": "utf-8", "newline": ""},
        },
    }


class PageDataset(TextDataset):
    """An HTML page; `THIS_VERSION` in the addresses of its links becomes the version that it is saved as."""

    kind = "an HTML page"

    beside: Collection[str] | None = None
    """Files of the pages that the same run writes, without their versions; None: every page that is linked."""

    def save(self, data: str) -> None:
        """Write the page; links to pages of its version lead there, and those to pages that it will not have go."""
        version = self.resolve_save_version()
        if version:
            linked = _LINK.sub(lambda link: self._lead(link, version), data)
            data = linked if linked.count("<a ") == data.count("<a ") else _NO_LINKS.sub("", linked)
        super().save(data)

    def _lead(self, link: re.Match[str], version: str) -> str:
        """A link to a page of a version, or its text alone where nobody has written or writes that page."""
        before, after, text = link.groups()
        address = f"{before}{version}/{after}"
        here = posixpath.dirname(str(self._get_versioned_path(version)))
        target = posixpath.normpath(posixpath.join(here, address))
        of_all = posixpath.dirname(posixpath.dirname(target))
        is_there = self.beside is None or of_all in self.beside or self._fs.exists(target)
        return f'<a href="{address}">{text}</a>' if is_there else text

    @property
    def file(self) -> str:
        """Where it lies, without its version."""
        return str(self._filepath)


class TableDataset(LibraryDataset):
    """A pandas.DataFrame as `.csv`, without its index."""

    kind = "a table (.csv)"
    definition: ClassVar = {
        "type": "pandas.CSVDataset",
        "save_args": {"index": False},
        "fs_args": {"open_args_save": {"mode": "w", "encoding": "utf-8", "newline": ""}},
    }

    @if_saved
    def preview(self) -> TablePreview:
        """The rows, for Kedro-Viz."""
        return TablePreview(self.load().to_dict("split"))


class ParquetDataset(LibraryDataset):
    """A pandas.DataFrame as `.parquet`, without its index; its `attrs` are kept."""

    kind = "a table (.parquet)"
    definition: ClassVar = {
        "type": "pandas.ParquetDataset",
        "save_args": {"engine": "pyarrow", "index": False, "write_page_checksum": True},
        "load_args": {"engine": "pyarrow", "page_checksum_verification": True},
    }

    @if_saved
    def preview(self) -> TablePreview:
        """The first rows, for Kedro-Viz."""
        return TablePreview(self.load().head(_PREVIEW_ROWS).to_dict("split"))


@contextmanager
def _bare_errors() -> Iterator[None]:
    """Raise what the library ran into, without the sentence around it, which names the part and not the file."""
    try:
        yield
    except DatasetError as error:
        raise (error.__cause__ or error) from None
