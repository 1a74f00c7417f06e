"""What one candidate of a search is made of: a prompt and, where the space has them, settings beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = float | int | str


@dataclass(frozen=True)
class Variation:
    """A prompt with its negative prompt and generation settings.

    Attributes:
        negative_prompt: None where the space does not vary it.
        settings: of the knobs of the space, such as guidance and steps; empty where it has none.

    Example:
        >>> Variation("a polyp", "blurred", {"steps": 20}).shown
        'a polyp [negative: blurred] [steps 20]'
    """

    prompt: str
    negative_prompt: str | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """One text that names it: the prompt alone, or with further lines for what stands beside it."""
        lines = [self.prompt]
        if self.negative_prompt is not None:
            lines.append(f"{_NEGATIVE}{self.negative_prompt}")
        if self.settings:
            lines.append(f"{_SETTINGS}{json.dumps(dict(self.settings), ensure_ascii=False)}")
        return "\n".join(lines)

    @property
    def shown(self) -> str:
        """The same for people: "a polyp [negative: blurred] [guidance 2, steps 20]"."""
        parts = [self.prompt]
        if self.negative_prompt:
            parts.append(f"[negative: {self.negative_prompt}]")
        if self.settings:
            own = (f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.settings.items())
            parts.append(f"[{', '.join(own)}]")
        return " ".join(parts)

    @classmethod
    def of(cls, label: str) -> Variation:
        """From a `label`. Rendered prompts have no line breaks, so a plain prompt is its own label."""
        prompt, *lines = label.split("\n")
        negative: str | None = None
        settings: Mapping[str, Value] = {}
        for line in lines:
            if line.startswith(_NEGATIVE):
                negative = line.removeprefix(_NEGATIVE)
            elif line.startswith(_SETTINGS):
                settings = json.loads(line.removeprefix(_SETTINGS))
            else:  # a prompt given by hand, with line breaks of its own
                return cls(label)
        return cls(prompt, negative, settings)


_NEGATIVE = "Negative prompt: "
_SETTINGS = "Settings: "
