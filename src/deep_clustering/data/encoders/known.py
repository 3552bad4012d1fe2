"""Which encoders of texts there are; asked before anything is read, so that a run does not end in its middle."""

import os
from importlib.util import find_spec
from pathlib import Path

from deep_clustering.options import closest

LSA = "lsa"
ONNX, SENTENCE_TRANSFORMERS, MODEL2VEC = "onnx", "sentence-transformers", "model2vec"
MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"

# What each kind imports, and how it is installed.
_PACKAGES = {
    ONNX: (("onnxruntime", "tokenizers"), "pip install onnxruntime tokenizers, which the extra text holds"),
    SENTENCE_TRANSFORMERS: (("sentence_transformers",), "pip install sentence-transformers"),
    MODEL2VEC: (("model2vec",), "pip install model2vec"),
}
_FORMS = (LSA, f"{ONNX}:<folder>", f"{SENTENCE_TRANSFORMERS}:<name>", f"{MODEL2VEC}:<name>")


def split_name(encoder: str) -> tuple[str, str]:
    """Kind of an encoder, and what it is called; "" for latent semantic analysis."""
    kind, _, name = encoder.partition(":")
    return kind, name


def normalised(encoder: str) -> str:
    """An encoder by one of its spellings: `onnx:x` for `onnx:x/` and `onnx:./x`."""
    kind, name = split_name(encoder)
    if not name:
        return encoder
    return f"{kind}:{os.path.normpath(name) if kind == ONNX else name.rstrip('/')}"


def check_encoder(encoder: str) -> None:
    """Refuse an encoder that cannot work here.

    Args:
        encoder: "lsa", "onnx:<folder>", "sentence-transformers:<name>" or "model2vec:<name>".

    Raises:
        ValueError: naming the nearest known kind, the packages to install, or the file that is missing.
    """
    kind, name = split_name(encoder)
    if encoder == LSA:
        return
    if kind not in _PACKAGES or not name:
        raise ValueError(f"encoder got '{encoder}' ({closest(kind, (LSA, *_PACKAGES))}; expected {', '.join(_FORMS)})")
    packages, install = _PACKAGES[kind]
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        raise ValueError(f"encoder '{encoder}' needs {' and '.join(missing)}, not installed here: {install}")
    if kind == ONNX:
        _check_folder(Path(name), encoder)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that was put in place by hand
        return True


def _check_folder(folder: Path, encoder: str) -> None:
    if not folder.is_dir():
        raise ValueError(f"encoder '{encoder}': no such folder (looked in {Path.cwd()})")
    missing = [name for name in (MODEL_FILE, TOKENIZER_FILE) if not (folder / name).is_file()]
    if missing:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise ValueError(
            f"encoder '{encoder}': no {' and no '.join(missing)} in the folder, which holds {found}; expected "
            f"{MODEL_FILE} and {TOKENIZER_FILE}"
        )
