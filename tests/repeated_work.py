"""What libraries do anew for each run is done once by a process: hundreds of small runs would else mostly do that.

Nothing here changes what comes out of a run.
"""

import copy
import gc
import inspect
import io
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from dynaconf.loaders import py_loader
from dynaconf.utils import files
from kedro.io import core
from kedro.validation import type_extractor
from omegaconf import OmegaConf, base

from deep_clustering import hooks

_load, _signature = OmegaConf.load, cache(inspect.signature)
_parsed: dict[str, Any] = {}


def spare_repeated_work() -> None:
    """Let libraries remember what they would find out again."""
    # Dynaconf looks at the names of the files of the stack, and reads the source around each of its lines for that.
    py_loader.inspect = files.inspect = SimpleNamespace(stack=_files_of_stack)
    # Kedro tries to import it for each parameter of each catalog, and Python looks for it in every folder of its path.
    if find_spec("ibis") is None:
        sys.modules["ibis"] = None
    # A run gives back the memory of each node; of one of few rows the youngest objects are all of it.
    # What was there before is out of the collector's sight already, see conftest.
    hooks.gc = SimpleNamespace(collect=partial(gc.collect, 1), freeze=lambda: None, unfreeze=lambda: None)
    core.getcallargs = _arguments
    type_extractor.get_type_hints = cache(type_extractor.get_type_hints)
    type_extractor.inspect = SimpleNamespace(signature=_signature, Signature=inspect.Signature)
    OmegaConf.load = _load_once
    base.parse = cache(base.parse)


def spare_migrations() -> None:
    """Let MLflow, once it is loaded, read its migrations once, and make the tables of a store from nothing once."""
    utils = sys.modules.get("mlflow.store.db.utils")
    if utils is not None and not hasattr(utils._get_latest_schema_revision, "cache_info"):
        utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)
        utils._initialize_tables = _Tables(utils)


class _Tables:
    """Makes the tables of a new store, after the first one as a copy of what was made then."""

    def __init__(self, utils: Any) -> None:
        self._make, self._upgrade, self._utils = utils._initialize_tables, utils._upgrade_db, utils
        self._made = sqlite3.connect(":memory:", check_same_thread=False)
        self._is_made = False

    def __call__(self, engine: Any) -> None:
        if self._utils._upgrade_db is not self._upgrade or engine.dialect.name != "sqlite":
            self._make(engine)
            return
        if not self._is_made:
            self._make(engine)
        with closing(sqlite3.connect(engine.url.database)) as store:
            if self._is_made:
                self._made.backup(store)
            else:
                store.backup(self._made)
        self._is_made = True


def _files_of_stack() -> list[SimpleNamespace]:
    found, frame = [], inspect.currentframe()
    while frame is not None:
        found.append(SimpleNamespace(filename=frame.f_code.co_filename))
        frame = frame.f_back
    return found


def _arguments(function: Callable[..., Any], *positional: Any, **named: Any) -> dict[str, Any]:
    bound = _signature(function).bind(*positional, **named)
    bound.apply_defaults()
    return dict(bound.arguments)


def _load_once(file: Any) -> Any:
    """Parse a text once; what is made of it is changed in place by who asked for it."""
    if not isinstance(file, io.StringIO):
        return _load(file)
    text = file.read()
    if text not in _parsed:
        _parsed[text] = _load(io.StringIO(text))
    return copy.deepcopy(_parsed[text])
