"""A comparison goes on without the methods that fail.

A node belongs to the methods whose training lies behind it, itself included: to one of them, such as its scores, or to
several, such as the comparison. If a node of one method fails, the rest of that method is left out, and nodes of
several methods get what there is; those that take `failures` are told what went wrong. Their inputs have names for
that reason. What belongs to no method, the data, fails as in any run, and so does a run all of whose methods fail.
"""

import inspect
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial, update_wrapper
from itertools import chain
from typing import Any, NamedTuple

from kedro.io import CatalogProtocol, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro.runner.task import Task
from pluggy import PluginManager

from deep_clustering.pipelines.namespaces import NAMESPACES

logger = logging.getLogger(__name__)

# What rows, options or the machine may do to a method; anything else is a defect and ends the run.
_EXPECTED = (ValueError, ArithmeticError, MemoryError, OSError, DatasetError, RuntimeError)

# Under this name the result of a run holds its `Failures`, if there are any.
_FAILURES = "failures"


class Failures(NamedTuple):
    """What a run went on without."""

    messages: Mapping[str, str]
    """What went wrong with each method that failed."""
    lost: frozenset[str]
    """Data sets that were not made."""


def failures_of(run_result: Mapping[str, Any]) -> Failures:
    """What a finished run went on without; nothing if no method failed.

    Args:
        run_result: What a runner returned.

    Returns:
        The methods and data sets.
    """
    return run_result[_FAILURES].load() if _FAILURES in run_result else Failures({}, frozenset())


def is_comparison(pipelines: Sequence[str]) -> bool:
    """Whether a run of these pipelines is that of all compared methods."""
    return list(pipelines) in ([], ["__default__"])


def methods_of(pipeline: Pipeline) -> dict[str, frozenset[str]]:
    """Methods that each node belongs to.

    Args:
        pipeline: Any pipeline; a method's training lies in the namespace of its name.

    Returns:
        Name of each node to the namespaces of training that it lies in or behind; what a part of a pipeline reads of
        a training that it does not repeat has the name of that.
    """
    makers = {output: node for node in pipeline.nodes for output in node.outputs}
    found: dict[str, frozenset[str]] = {}
    own: set[str]
    for node in pipeline.nodes:  # in the order of the graph: what a node reads has been seen
        own = {node.namespace} if node.namespace in NAMESPACES else set()
        behind = (found[makers[read].name] if read in makers else _named_in(read) for read in node.inputs)
        found[node.name] = frozenset(own).union(*behind)
    return found


def _named_in(data: str) -> frozenset[str]:
    """The method whose name an entry of the catalog begins with, if any does."""
    named = [name for name in NAMESPACES if data.startswith((f"{name}_", f"{name}."))]
    return frozenset(sorted(named, key=len)[-1:])


class ComparingRunner(SequentialRunner):
    """Runs nodes one after the other, those of several methods last, and goes on without a method that fails."""

    def run(
        self,
        pipeline: Pipeline,
        catalog: Any,  # noqa: ANN401 - Kedro's union of two protocols
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
        only_missing_outputs: bool = False,
    ) -> dict[str, Any]:
        """As in Kedro; the result also says which methods failed, see `failures_of`."""
        self._errors: dict[str, Exception] = {}
        self._lost: set[str] = set()
        outputs = super().run(pipeline, catalog, hook_manager, run_id, only_missing_outputs)
        if not self._errors:
            return outputs
        there = {name: dataset for name, dataset in outputs.items() if name not in self._lost}
        return {**there, _FAILURES: MemoryDataset(Failures(self._messages(), frozenset(self._lost)))}

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        methods = methods_of(pipeline)
        loads = Counter(chain.from_iterable(node.inputs for node in pipeline.nodes))
        done: list[Node] = []
        for node in sorted(pipeline.nodes, key=lambda node: len(methods[node.name]) > 1):
            if methods[node.name] and methods[node.name] <= self._errors.keys():
                self._lost.update(node.outputs)
            else:
                try:
                    there = self._fitted_to_what_there_is(node)
                    Task(there, catalog, self._is_async, hook_manager, run_id).execute()
                    done.append(node)
                except Exception as error:
                    if not self._goes_on_without(node, methods, error):
                        self._suggest_resume_scenario(pipeline, done, catalog)
                        raise
            self._release_datasets(node, catalog, loads, pipeline)

    def _goes_on_without(self, node: Node, methods: Mapping[str, frozenset[str]], error: Exception) -> bool:
        """Note what went wrong; whether that leaves something to go on with.

        Raises:
            Exception: the first error, if it is that of the last method.
        """
        own = methods[node.name]
        if len(own) != 1 or not isinstance(error, _EXPECTED):
            return False
        (method,) = own
        self._errors[method] = error
        logger.warning("%s failed and is left out: %s (%s)", method, _line(error), node.name)
        if self._errors.keys() >= frozenset().union(*methods.values()):
            raise next(iter(self._errors.values()))
        self._lost.update(node.outputs)
        logger.debug("%s failed", node.name, exc_info=error)
        return True

    def _messages(self) -> dict[str, str]:
        return {method: _line(error) for method, error in self._errors.items()}

    def _fitted_to_what_there_is(self, node: Node) -> Node:
        """A node that does without what was not made, and is told why if it takes `failures`."""
        if not self._errors or not isinstance(node._inputs, dict):
            return node
        inputs = {key: name for key, name in node._inputs.items() if name not in self._lost}
        function = node.func
        if _FAILURES in inspect.signature(function).parameters:
            function = update_wrapper(partial(function, failures=self._messages()), function)
        return node._copy(inputs=inputs, func=function)


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
