"""A category's words, negative words and knobs as one `PromptSpace`."""

from promptopt.template import PromptSpace, beside, compile_template
from studies.category import Category


def category_space(category: Category) -> PromptSpace:
    """Compile what a category varies.

    Raises:
        TemplateError: a fault in `template` or `negative_template`; its `source` names which.
        ValueError: a knob that cannot stand beside the template.
    """
    space = compile_template(category.template, category.wildcards)
    negative = None
    if category.negative_template is not None:
        negative = compile_template(
            category.negative_template, category.wildcards, source="negative_template"
        )
    return beside(space, negative=negative, knobs=category.knobs)
