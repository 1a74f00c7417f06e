"""A byte-level CLIP vocabulary learned from captions, in the layout that `CLIPTokenizer` loads."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from promptopt.base.errors import ArgumentError

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77
_SUFFIX = "</w>"
_LEAST_COUNT = 2


def train_tokenizer(captions: Iterable[str], *, vocab_size: int = 1200) -> CLIPTokenizer:
    """Learn byte pair merges from captions.

    The vocabulary is the 256 bytes, the same with a word's end, the merges, and the two markers, so any text
    can be encoded. It may come out smaller than ``vocab_size`` when the captions hold fewer repeated pairs.
    Padding is the end marker, as in SD 1.x; length is 77. Raises ValueError for a vocabulary below 514.
    """
    alphabet = sorted(ByteLevel.alphabet())
    base = [*alphabet, *(byte + _SUFFIX for byte in alphabet)]
    if vocab_size < len(base) + 2:
        raise ArgumentError(f"vocab_size {vocab_size} is too small; the bytes alone need {len(base) + 2}")
    # The very normalizer and splitter of CLIPTokenizer, so that what is learned is what will be seen.
    clip = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[]).backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix=_SUFFIX))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=_LEAST_COUNT,
        initial_alphabet=alphabet,
        end_of_word_suffix=_SUFFIX,
        show_progress=False,
    )
    # sorted: counting must not depend on the order of the captions
    counts = Counter(captions)
    learner.train_from_iterator((text for text in sorted(counts) for _ in range(counts[text])), trainer)
    learned = json.loads(learner.to_str())["model"]["merges"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learned]
    merges = merges[: vocab_size - 2 - len(base)]
    tokens = [*base, *dict.fromkeys(left + right for left, right in merges), START, END]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_classic(folder, vocab, merges)
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": MAX_TOKENS,
            "unk_token": END,
            "bos_token": START,
            "eos_token": END,
            "pad_token": END,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save as `CLIPTokenizer` does, and beside it the vocab.json and merges.txt that older tools ask for."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    _write_classic(folder, model["vocab"], merges)


def _write_classic(folder: Path, vocab: dict[str, int], merges: Sequence[tuple[str, ...]]) -> None:
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_too_long(tokenizer: CLIPTokenizer, text: str) -> bool:
    """Whether a caption has more tokens, markers included, than the text encoder sees."""
    return len(tokenizer(text, truncation=False, verbose=False).input_ids) > tokenizer.model_max_length
