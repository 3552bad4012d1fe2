"""Checkpoints of a training loop: its whole state in one file without pickle, written so that a kill leaves none cut.

A state is a nested mapping or list of tensors, numbers, text and None; tensors go to a safetensors file, everything
else into its header. The file's name is the number of finished epochs; the two newest are kept, so that a damaged last
one costs some epochs and not the training. Checkpoints of other trainings of the same method and folder, as they stay
behind where a killed run is never resumed, are removed when a training begins and they are two weeks old.

The options are checked before every run, also of methods without a network: torch is imported where a state is at hand.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from annotated_types import Ge
from safetensors import SafetensorError, safe_open
from scipy import sparse

from deep_clustering import __version__
from deep_clustering.atomic import atomic_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

logger = logging.getLogger(__name__)

_KEPT = 2
# What a training that was given up has left is removed by the next one of its name after so long.
_GIVEN_UP_SECONDS = 14 * 86400.0
# A fingerprint reads this many rows at most: enough to tell data sets apart, whatever their size.
_FINGERPRINT_ROWS = 1000
_DIGEST = "sha256"
# What a file that is cut short or changed makes its reader raise.
_DAMAGED = (SafetensorError, OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """The parameter block `checkpoints`."""

    every: Annotated[int, Ge(0)]
    """Epochs between checkpoints; 0 writes none."""
    resume: bool | Literal["auto"]
    """Continue from the newest checkpoint, if there is one; true refuses those of another training, auto passes over
    them."""
    folder: str
    """Where they lie; each training makes a folder inside."""


class Checkpoints:
    """The checkpoints of one training, in a folder named after what makes it that training and no other."""

    def __init__(self, options: CheckpointOptions, name: str) -> None:
        """See `CheckpointOptions`; `name` is the folder inside `options.folder`."""
        self._options = options
        self._name = name
        self._identity: dict[str, Any] = {}
        self._is_continued = False

    def within(self, name: str) -> "Checkpoints":
        """The checkpoints of a part of this training.

        Once the training itself is found to be the one that is continued, what others have left of this part is no
        reason to refuse it.
        """
        resume = "auto" if self._is_continued and self._options.resume else self._options.resume
        return type(self)(replace(self._options, resume=resume), f"{self._name}/{name}")

    @classmethod
    def like(cls, other: "Checkpoints") -> Self:
        """The same checkpoints as of this kind."""
        return cls(other._options, other._name)

    def begin(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """State to continue from, or None to begin anew.

        Args:
            identity: Plain values that a checkpoint must share to be of this training: options, data, code.

        Returns:
            The newest state that can be read, if resuming is asked for.

        Raises:
            ValueError: if there are only checkpoints of another configuration, data set or version of the code.
        """
        self._identity = json.loads(json.dumps({**identity, "deep_clustering": __version__}))
        self._remove_given_up()
        if not self._options.resume:
            self.clear()
            return None
        for path in self._files():
            try:
                state = _read(path)[1]
            except _DAMAGED as error:
                logger.warning("%s is cut short or damaged (%s); the one before it is used, if any", path, error)
            else:
                self._is_continued = True
                return state
        if self._options.resume != "auto" and not self._files():
            self._refuse_others()
        return None

    def _refuse_others(self) -> None:
        """Say what is different in the newest checkpoint of another training, if there is one."""
        root = Path(self._options.folder) / self._name
        for path in sorted(root.glob("*/epoch-*.safetensors"), key=lambda path: -_written(path)):
            try:
                differences = _differences(self._identity, _read(path)[0])
            except _DAMAGED:
                continue
            raise ValueError(
                f"checkpoints: {path} is of another training: {'; '.join(differences)}. Restore what differs, or begin "
                "anew with checkpoints.resume=false"
            )

    def is_due(self, epoch: int) -> bool:
        """Whether a state is to be saved after so many finished epochs."""
        return self._options.every > 0 and epoch % self._options.every == 0

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Write the state after so many finished epochs, then remove all but the newest."""
        import safetensors.torch

        folder = self._folder()
        tensors: dict[str, Tensor] = {}
        skeleton = _take_apart(state, "", tensors)
        header = {"identity": json.dumps(self._identity), "state": json.dumps(skeleton)}
        header[_DIGEST] = _digest(tensors, header)
        newest = folder / f"epoch-{epoch:06d}.safetensors"
        with atomic_file(newest) as file:
            file.write(safetensors.torch.save(tensors, metadata=header))
        files = self._files()
        # Those of later epochs are damaged: this training would have been continued from them.
        kept = [path for path in files if path.name <= newest.name][:_KEPT]
        for path in set(files) - set(kept):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the checkpoints: the training has ended, or begins anew."""
        _remove(self._folder())

    def _remove_given_up(self) -> None:
        """Remove what trainings of other options or rows have left here and nobody has continued for long."""
        oldest = time.time() - _GIVEN_UP_SECONDS
        for folder in (Path(self._options.folder) / self._name).glob("*/"):
            times = [_written(file) for file in folder.glob("epoch-*.safetensors")]
            if folder != self._folder() and times and max(times) < oldest:
                _remove(folder)
                logger.info("checkpoints: removed %s, which nobody has continued for two weeks", folder)

    def _folder(self) -> Path:
        digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        return Path(self._options.folder) / self._name / digest[:12]

    def _files(self) -> list[Path]:
        return sorted(self._folder().glob("epoch-*.safetensors"), reverse=True)


def _written(path: Path) -> float:
    """When a file was written, in seconds; now, if its training has just removed it for a newer one."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _remove(folder: Path) -> None:
    """Remove the checkpoints in a folder, with what a killed process has left of one, and the folder if it is empty."""
    for path in (*folder.glob("epoch-*.safetensors"), *folder.glob(".*")):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or not empty
        folder.rmdir()


def identify(
    method: str, options: Mapping[str, Any], features: np.ndarray | sparse.csr_matrix, neighbours: np.ndarray | None
) -> dict[str, Any]:
    """What a checkpoint must share to be of a training.

    Args:
        method: Name of the method.
        options: All of its hyper-parameters.
        features: The rows.
        neighbours: Nearest rows of each row, or None.

    Returns:
        Plain values.
    """
    nearest = "none" if neighbours is None else fingerprint(neighbours)
    return {"method": method, "options": dict(options), "rows": fingerprint(features), "neighbours": nearest}


def fingerprint(rows: np.ndarray | sparse.csr_matrix) -> str:
    """Digest of the shape and of rows spread over a data set, to tell one from another."""
    chosen = rows[:: max(1, rows.shape[0] // _FINGERPRINT_ROWS)]
    dense = np.ascontiguousarray(chosen if isinstance(chosen, np.ndarray) else chosen.toarray())
    values = dense.astype(np.float32) if dense.dtype.kind == "f" else dense
    return hashlib.sha256(repr(rows.shape).encode() + values.tobytes()).hexdigest()


def _take_apart(value: Any, place: str, tensors: "dict[str, Tensor]") -> Any:  # noqa: ANN401
    """Copy of a nested value in which each tensor is replaced by its name in `tensors`."""
    from torch import Tensor

    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().contiguous().clone()
        return {"tensor": place}
    if isinstance(value, Mapping):
        items = [[key, _take_apart(item, f"{place}/{key}", tensors)] for key, item in value.items()]
        return {"items": items}  # not an object of JSON, whose keys would all become text
    if isinstance(value, list | tuple):
        return [_take_apart(item, f"{place}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _put_together(value: Any, tensors: "Mapping[str, Tensor]") -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _put_together(item, tensors) for key, item in value["items"]}
    if isinstance(value, list):
        return [_put_together(item, tensors) for item in value]
    return value


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    stated = header.pop(_DIGEST, None)  # versions before 0.3.0 wrote none
    # Another name may be that of the digest with a bit changed.
    if set(header) != {"identity", "state"} or (stated is not None and stated != _digest(tensors, header)):
        raise ValueError("its content has changed since it was written")
    return json.loads(header["identity"]), _put_together(json.loads(header["state"]), tensors)


def _digest(tensors: "Mapping[str, Tensor]", header: Mapping[str, str]) -> str:
    """sha256 of names, types, shapes and numbers of the tensors, and of the texts."""
    import torch

    digest = hashlib.sha256(repr(sorted(header.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any], place: str = "") -> list[str]:
    """Sentences naming each value in which two nested mappings differ."""
    differences = []
    for key in sorted({*wanted, *found}):
        one, other = wanted.get(key), found.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            differences += _differences(one, other, f"{place}{key}.")
        elif one != other:
            differences.append(f"{place}{key} was {other!r}, is {one!r}")
    return differences


def random_state(generator: "torch.Generator") -> "dict[str, Any]":
    """States of torch's own generator and of the training's."""
    import torch

    return {"torch": torch.get_rng_state(), "training": generator.get_state(), "device": generator.device.type}


def restore_random_state(state: "Mapping[str, Any]", generator: "torch.Generator") -> None:
    """Put both generators back to what `random_state` gave.

    A generator on another kind of device cannot take the training's state: it then begins a stream that the state
    decides, and the log says so.
    """
    import torch

    torch.set_rng_state(state["torch"])
    if state["device"] == generator.device.type:
        generator.set_state(state["training"])
        return
    digest = hashlib.sha256(state["training"].numpy().tobytes()).digest()
    generator.manual_seed(int.from_bytes(digest[:4], "big"))
    logger.info("the training goes on with other draws: it was on %s, and is on %s", state["device"], generator.device)
