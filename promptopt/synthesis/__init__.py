"""Images for a list of prompts, from Python: `synthesize(read_prompt_file(...).prompts, load(...), out)`.

OUT/images holds the images under their names (hard links into the image store, so they lie on the disk once),
OUT/manifest.csv says of each how it was made, OUT/synthesis.json keeps the folder to one set of settings.
"""

from promptopt.synthesis.folder import IMAGES, MANIFEST
from promptopt.synthesis.naming import PATTERN, PatternError, check_pattern
from promptopt.synthesis.plan import Sampling, SynthesisError, image_seed, shares, split_too_long
from promptopt.synthesis.prompt_files import (
    PromptFile,
    PromptFileError,
    PromptLine,
    prompt_lines,
    read_prompt_file,
)
from promptopt.synthesis.run import COLUMNS, Synthesis, megabytes, synthesize

__all__ = [
    "COLUMNS",
    "IMAGES",
    "MANIFEST",
    "PATTERN",
    "PatternError",
    "PromptFile",
    "PromptFileError",
    "PromptLine",
    "Sampling",
    "Synthesis",
    "SynthesisError",
    "check_pattern",
    "image_seed",
    "megabytes",
    "prompt_lines",
    "read_prompt_file",
    "shares",
    "split_too_long",
    "synthesize",
]
