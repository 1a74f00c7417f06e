"""The prompt language: template text -> `PromptSpace`, a product of named categorical slots.

The syntax is that of dynamic-prompts:

========================  =========================================================================
``{a|b}``                 one of the options; options may be empty and may hold any template syntax
``{2::a|1::b}``           weights, any positive numbers; an option without one weighs 1
``{2$$a|b|c}``            two of the options, in the order written, with ", " between them
``{0-2$$ and $$a|b|c}``   none, one or two of them with " and " between them; also ``-2`` and ``1-``
``__name__``              one of the options of the wildcard list `name`; they may hold template syntax
``__color*__``            one of the options of all wildcards that match; also ``?`` and ``[...]``
``{2$$__name__}``         two of the options of a wildcard
``__name(tone=red)__``    `name` with variables that hold in its options alone
``__color/${tone}__``     all wildcards that the name can become; also ``__color/{warm|cold}__``
``${name={a|b}}``         sets a variable for the whole template; ``?=`` unless it is set already
``${name=!{a|b}}``        the same, chosen once: every ``${name}`` shows the same option
``${name}``               its value, without ``!`` chosen anew here; ``${name:default}`` where it is not set
``# ...``, ``// ...``     comments to the end of the line, and ``/* ... */``
``\\{ \\} \\| \\_ \\$``        the character itself; also ``\\: \\# \\/ \\\\``
========================  =========================================================================

Where that library differs: unknown wildcards and variables and parameters that nothing uses are errors, as
are a ``}`` or ``|`` outside of braces and more options at a time than there are; several options come in the
order written, not in every order; ``=!`` keeps all options, not the first alone; a backslash escapes. Refused
are ``{~a|b}``, ``__@name__`` and ``{!a|b}``, which say how to sample, ``%{...$$...}``, which wraps texts, and
what no static product of slots can hold: a name with a choice that is made once (``=!``), several options of
a wildcard whose name is a choice.
"""

from promptopt.space._beside import beside
from promptopt.space._compile import compile_template
from promptopt.space._errors import TemplateError
from promptopt.space._space import PromptSpace, Slot
from promptopt.space._tidy import normalize
from promptopt.space.candidate import Candidate, unique_labels

__all__ = [
    "Candidate",
    "PromptSpace",
    "Slot",
    "TemplateError",
    "beside",
    "compile_template",
    "normalize",
    "unique_labels",
]
