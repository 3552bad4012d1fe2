"""Reuters-21578: newswire of 1987 from its SGML files."""

import html
import logging
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge

from deep_clustering.data.sources.downloads import raw_folder
from deep_clustering.data.sources.parts import PROTOCOL_WORDS, PROTOCOLS, Protocol
from deep_clustering.data.sources.samples import ASSIGNED, FITTED, Samples
from deep_clustering.data.sources.tfidf import idf_of, tfidf

logger = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"reut2-\d{3}\.sgm")
_N_FILES = 22
_ATTRIBUTE = re.compile(r'([A-Z]+)="([^"]*)"')


class Story(NamedTuple):
    """One document."""

    number: str
    """Its NEWID."""
    split: str
    """Part of the ModApte split: train, test, or unused."""
    topics: list[str]
    """Its topics, often none."""
    text: str
    """Title and body; the whole text where the file does not tell them apart."""
    title: str
    """The title; "" where there is none."""


def parse_stories(content: str, where: str) -> list[Story]:
    """Stories of one SGML file.

    Args:
        content: The file's text. Only the character references of HTML are resolved; the document type is not read.
        where: The file, for the messages.

    Returns:
        The stories in order.

    Raises:
        ValueError: naming the story that is cut short or lacks its number or text.
    """
    *parts, rest = content.split("</REUTERS>")
    if "<REUTERS" in rest:
        raise ValueError(f"{where}: the file ends within a story (no </REUTERS> behind its last <REUTERS)")
    return [_parse_story(part, f"{where}, story {index}") for index, part in enumerate(parts, start=1)]


def _parse_story(part: str, where: str) -> Story:
    before, opened, rest = part.partition("<REUTERS")
    head, closed, body = rest.partition(">")
    if not (opened and closed):
        raise ValueError(f"{where}: expected '<REUTERS ...>' before '</REUTERS>', got {(before or head)[:80]!r}")
    attributes = dict(_ATTRIBUTE.findall(head))
    if not attributes.get("NEWID"):
        raise ValueError(f'{where}: expected NEWID="number" in <REUTERS ...>, got {head[:80]!r}')
    where = f"{where} (NEWID {attributes['NEWID'][:20]})"
    topics = re.findall(r"<D>([^<]*)</D>", _element(body, "TOPICS", where) or "")
    split = attributes.get("LEWISSPLIT", "").lower() if attributes.get("TOPICS") == "YES" else ""
    return Story(
        attributes["NEWID"],
        split if split in ("train", "test") else "unused",
        [html.unescape(topic) for topic in topics],
        *_text_and_title(body, where),
    )


def _text_and_title(body: str, where: str) -> tuple[str, str]:
    text = _element(body, "TEXT", where)
    if text is None:
        raise ValueError(f"{where}: expected <TEXT>, got none")
    title = _element(text, "TITLE", where)
    found = [part for part in (title, _element(text, "BODY", where)) if part is not None]
    return html.unescape("\n".join(found) if found else text), html.unescape(title or "").strip()


def _element(body: str, name: str, where: str) -> str | None:
    """Content of the first element of a name, or None; its attributes are left out."""
    start = re.search(rf"<{name}(?:\s[^>]*)?>", body)
    if start is None:
        return None
    end = body.find(f"</{name}>", start.end())
    if end < 0:
        raise ValueError(f"{where}: <{name}> is not closed")
    return body[start.end() : end]


def read_stories(root: Path) -> list[Story]:
    """All stories of a folder.

    Args:
        root: Folder of `reut2-000.sgm` to `reut2-021.sgm`, or of `reuters21578.tar.gz` with them.

    Returns:
        The stories in the order of the files.

    Raises:
        FileNotFoundError: if there is neither.
        ValueError: if a file is damaged.
    """
    contents = dict(_files(root))
    if not contents:
        raise FileNotFoundError(
            f"ingestion: no Reuters-21578 in {root}; expected reut2-000.sgm to reut2-021.sgm, or reuters21578.tar.gz"
        )
    if len(contents) != _N_FILES:
        logger.warning("%s has %d files of Reuters-21578, expected %d", root, len(contents), _N_FILES)
    # Some bytes are not ASCII; the distribution does not say what they are, and latin-1 takes them all.
    stories = [parse_stories(contents[name].decode("latin-1"), str(root / name)) for name in sorted(contents)]
    return [story for part in stories for story in part]


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    plain = [path for path in root.glob("reut2-*.sgm") if _FILE_NAME.fullmatch(path.name)]
    if plain:
        yield from ((path.name, path.read_bytes()) for path in plain)
        return
    archive = root / "reuters21578.tar.gz"
    if not archive.is_file():
        return
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if member.isfile() and _FILE_NAME.fullmatch(name) else None
                if content is not None:
                    yield name, content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{archive}: expected a .tar.gz, got a file cut short or damaged ({error})") from error


@dataclass(frozen=True, kw_only=True)
class Reuters21578:
    """Stories with exactly one topic, of the topics with most of them."""

    root: str
    """Folder of the SGML files, or of reuters21578.tar.gz."""
    n_classes: Annotated[int, Ge(2)]
    """Number of topics, the largest first."""
    protocol: Literal["all", Protocol]
    """all: every story; train, test, train+test: those parts of the ModApte split; train->test: both, with
    terms, weights and model from the training part."""
    text: Literal["all", "title"]
    """all: title and body of a story; title: its title alone, and stories that have none are left out."""
    max_terms: Annotated[int, Ge(1)]
    """Largest number of terms."""

    def load(self) -> Samples:
        """Read the stories and make their rows."""
        root = raw_folder(self.root)
        stories = [story for story in read_stories(root) if len(story.topics) == 1]
        sizes = Counter(story.topics[0] for story in stories)
        if len(sizes) < self.n_classes:
            raise ValueError(
                f"ingestion: n_classes must be at most the {len(sizes)} topics of {root}, got {self.n_classes}"
            )
        # Of the whole collection, so that a class has one number under every protocol.
        names = sorted(sizes, key=lambda name: (-sizes[name], name))[: self.n_classes]
        stories = [story for story in stories if story.topics[0] in names]
        if self.text == "title":
            stories = [story._replace(text=story.title) for story in stories if story.title]
        return self._samples(stories, names)

    def _samples(self, stories: list[Story], names: list[str]) -> Samples:
        flags = dict.fromkeys(("train", "test", "unused"), FITTED | ASSIGNED)
        if self.protocol != "all":
            flags = PROTOCOLS[self.protocol]
        fitted = [story for story in stories if flags.get(story.split, 0) & FITTED]
        assigned = [story for story in stories if flags.get(story.split) == ASSIGNED]
        texts = [story.text for story in fitted + assigned]
        rows, vocabulary = tfidf(texts[: len(fitted)], self.max_terms, texts[len(fitted) :])
        split = np.array([flags[story.split] for story in fitted + assigned], dtype=np.uint8)
        labels = np.array([names.index(story.topics[0]) for story in fitted + assigned], dtype=np.int64)
        words = "all of them" if self.protocol == "all" else f"ModApte {PROTOCOL_WORDS[self.protocol]}"
        about = {
            "name": "reuters21578",
            "source": "Reuters-21578, Distribution 1.0 (SGML)",
            "licence": "free distribution for research purposes only; copyright Reuters Ltd.",
            "class_names": names,
            "value_range": [0.0, float(np.sqrt(len(vocabulary)))],
            "protocol": f"{self.n_classes} largest topics, stories with one topic, {words}"
            + (", titles only" if self.text == "title" else ""),
        }
        return Samples(rows, labels, split, vocabulary, about, idf_of(rows[: len(fitted)]), texts)
