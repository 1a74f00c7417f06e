"""Which prompts a submission's own model would cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from generators.errors import GeneratorError
from generators.stable_diffusion.tokens import lost_words
from promptopt.challenge.check.findings import Findings
from promptopt.challenge.submission.models import local_folder

_CLIP = 77


def check_lengths(prompts: Sequence[str], model: Path | str, where: object, findings: Findings) -> None:
    """Every prompt is read to its end.

    Args:
        model: folder of the model; or its hub address, which is looked for in the local cache. What is not
            there is counted by CLIP's own vocabulary, which nearly all such models have.
    """
    try:
        folder = model if isinstance(model, Path) else local_folder(model)
        count, limit = _own_counter(folder)
    except (GeneratorError, OSError, ValueError, KeyError) as error:
        if isinstance(model, Path):
            findings.error(where, f"the prompts cannot be counted: {error}", "Write the submission anew")
            return
        findings.warning(
            where,
            f"{model} is not on this machine, so prompts are counted by CLIP's vocabulary ({_CLIP} tokens)",
            "Fetch the model once and check again, if it has another one",
        )
        count, limit = _clip_counter(), _CLIP
    for number, prompt in enumerate(prompts, start=1):
        tokens = count(prompt)
        if tokens > limit:
            lost = lost_words(prompt, count=count, limit=limit)
            findings.error(
                f"{where}, line {number}",
                f"{tokens} tokens, and the model reads {limit}: {lost!r} would be lost",
                "Shorten the prompt and study it again",
            )


def _own_counter(folder: Path) -> tuple[Callable[[str], int], int]:
    """By the model's tokenizers (SDXL has two), as the generator counts."""
    from transformers import AutoTokenizer

    places = [folder / name for name in ("tokenizer", "tokenizer_2") if (folder / name).is_dir()]
    if not places:
        raise GeneratorError(f"{folder} has no tokenizer")
    tokenizers = [AutoTokenizer.from_pretrained(place, local_files_only=True) for place in places]
    limits = [int(tokenizer.model_max_length) for tokenizer in tokenizers]
    for name in ("text_encoder", "text_encoder_2"):
        config = folder / name / "config.json"
        if config.is_file():
            limits.append(int(json.loads(config.read_text(encoding="utf-8"))["max_position_embeddings"]))

    def count(text: str) -> int:
        return max(len(t(text, truncation=False, verbose=False)["input_ids"]) for t in tokenizers)

    return count, min(limits)


def _clip_counter() -> Callable[[str], int]:
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    return lambda text: len(tokenizer.encode(text)) + 2
