"""The form of configuration files, checked before anything is built of them: names and values, of few levels."""

from collections.abc import Iterable
from pathlib import Path

import yaml  # type: ignore[import-untyped]

MOST_LEVELS = 50
MOST_ALIASES = 1000

_BEGIN = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_END = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def misshapen(folders: Iterable[Path]) -> list[str]:
    """What is wrong with the form of configuration files; what is no YAML is left for Kedro to say.

    Args:
        folders: Folders of environments.

    Returns:
        A sentence for each file that is no regular one, is a list, is nested deeper than `MOST_LEVELS`, or repeats
        blocks by more than `MOST_ALIASES` aliases.
    """
    files = (file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix in (".yml", ".yaml"))
    return [f"{file}: {wrong}" for file in files if (wrong := _wrong_with(file))]


def _wrong_with(file: Path) -> str | None:
    level = n_aliases = 0
    if file.exists() and not (file.is_file() or file.is_dir()):
        return "expected a file, got a pipe, socket or device"
    try:
        with file.open("rb") as stream:
            for event in yaml.parse(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                if isinstance(event, yaml.SequenceStartEvent) and not level:
                    return "expected names and values, got a list"
                level += isinstance(event, _BEGIN) - isinstance(event, _END)
                n_aliases += isinstance(event, yaml.AliasEvent)
                if level > MOST_LEVELS:
                    return f"nested deeper than {MOST_LEVELS} levels, in line {event.start_mark.line + 1}"
                if n_aliases > MOST_ALIASES:
                    return f"more than {MOST_ALIASES} aliases of blocks"
    except (yaml.YAMLError, RecursionError) as error:
        # libyaml looks for the end of a list before it says that one has begun, and gives up at a thousand
        is_deep = isinstance(error, RecursionError) or "nesting depth" in str(error)
        return f"nested deeper than {MOST_LEVELS} levels" if is_deep else None
    except OSError:
        return None
    return None
