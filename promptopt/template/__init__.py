"""The prompt language: template text -> `PromptSpace`, a product of named categorical slots.

The syntax is that of dynamic-prompts, first part:

=====================  ==============================================================================
``{a|b}``              one of the options; options may be empty and may hold any template syntax
``{2::a|1::b}``        weights, any positive numbers; an option without one weighs 1
``__name__``           one of the options of the wildcard list `name`; they may hold template syntax
``\\{ \\} \\| \\_ \\$``      the character itself; also ``\\:`` and ``\\\\``
=====================  ==============================================================================

Not yet: ``${name=...}`` variables, ``{2$$a|b|c}`` several at a time, wildcard globs, comments. Each of the
first three is refused with its place in the text, never passed on to the image model as words.
"""

from promptopt.template._compile import compile_template
from promptopt.template._errors import TemplateError
from promptopt.template._space import PromptSpace, Slot, normalise

__all__ = ["PromptSpace", "Slot", "TemplateError", "compile_template", "normalise"]
