"""How far apart two prompts are: by their words, or by a sentence encoder."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from promptopt.base.weights import require_all
from promptopt.portfolio.mixture import FloatArray, PortfolioError

WORDS = "1 - shared words / all words"
SENTENCES = "1 - cosine of sentence embeddings"


def word_distances(prompts: Sequence[str]) -> FloatArray:
    """1 - (words in both) / (words in either), shape (k, k), from 0 to 1; blind to order and synonyms."""
    sets = [frozenset(re.findall(r"\w+", prompt.lower())) for prompt in prompts]
    found = np.zeros((len(sets), len(sets)))
    for i, first in enumerate(sets):
        for j, second in enumerate(sets[:i]):
            either = len(first | second)
            found[i, j] = found[j, i] = 1 - len(first & second) / either if either else 0.0
    return found


def sentence_distances(prompts: Sequence[str], model: str) -> FloatArray:
    """1 - cosine of the prompts' embeddings, shape (k, k), from 0 to 2.

    Args:
        model: folder of a sentence-transformers model, or the name of an installed package that holds one.

    Raises:
        PortfolioError: sentence-transformers is not installed, or there is no such model.
    """
    folder = sentence_model(model)
    from sentence_transformers import SentenceTransformer

    try:
        _require_weights(folder)
        encoder = SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError) as error:
        raise PortfolioError(
            f"{model!r}: the sentence model in {folder} cannot be loaded: {error}"
        ) from error
    rows = np.asarray(
        encoder.encode(list(prompts), show_progress_bar=False, normalize_embeddings=True), dtype=np.float64
    )
    return np.clip(1 - rows @ rows.T, 0.0, 2.0)


def _require_weights(folder: Path) -> None:
    """Every tensor of the model's transformer is in its file: sentence-transformers does not say.

    Published models often lack the pooler, which their own pooling does not use.
    """
    from transformers import AutoModel

    if not (folder / "config.json").is_file():
        return  # no transformer, or in a folder of its own
    _, info = AutoModel.from_pretrained(
        str(folder), use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    missing = [name for name in info["missing_keys"] if not name.startswith("pooler.")]
    require_all(folder, missing=missing, error=PortfolioError)


def sentence_model(model: str) -> Path:
    """The folder of a sentence model; checks that it can be used without loading it.

    Raises:
        PortfolioError: sentence-transformers is not installed, or neither a folder nor a package holds one.
    """
    if not _installed("sentence_transformers"):
        raise PortfolioError(
            f"{model!r}: sentence embeddings need sentence-transformers: pip install sentence-transformers; "
            "or leave the model out, and distances are by words"
        )
    folder = Path(model)
    if not folder.is_dir():
        spec = importlib.util.find_spec(model.replace("-", "_")) if _package_name(model) else None
        if spec is None or spec.origin is None:
            raise PortfolioError(f"{model!r}: neither a folder nor an installed package")
        folder = Path(spec.origin).parent
    found = [folder] if (folder / "modules.json").is_file() else sorted(folder.glob("**/modules.json"))
    if not found:
        raise PortfolioError(f"{model!r}: {folder} holds no modules.json, so no sentence-transformers model")
    return found[0] if found[0].is_dir() else found[0].parent


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # blocked in sys.modules
        return False


def _package_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z][\w-]*", text) is not None
