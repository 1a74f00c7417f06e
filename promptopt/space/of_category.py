"""A category's words, negative words and generation parameters as one `PromptSpace`."""

from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.space import PromptSpace, TemplateError, beside, compile_template
from studies.category import SHIPPED, Category, CategoryError, load_category


def category_space(category: Category) -> PromptSpace:
    """Compile what a category varies.

    Raises:
        TemplateError: a fault in `template` or `negative_template`; its `source` names which.
        ValueError: a generation parameter that cannot stand beside the template.
    """
    space = compile_template(category.template, category.wildcards)
    negative = None
    if category.negative_template is not None:
        negative = compile_template(
            category.negative_template, category.wildcards, source="negative_template"
        )
    return beside(space, negative=negative, generation_parameters=category.generation_parameters)


def open_category(config: StudyConfig) -> Category:
    """The category: shipped by name, a YAML file, or written in the study; with the study's parameters."""
    chosen = config.category
    try:
        found = load_category(chosen) if isinstance(chosen, str) else Category.model_validate(chosen)
    except (CategoryError, ValueError, OSError) as error:
        shown = repr(config.as_written(chosen)) if isinstance(chosen, str) else "the mapping"
        raise StudyError(
            f"{config.source}: category: {shown} cannot be used: {error}\n"
            f"Write one of {', '.join(SHIPPED)}, the path of a category YAML, or its content."
        ) from error
    try:
        return found.with_generation_parameters(config.generation_parameters)
    except CategoryError as error:
        raise StudyError(f"{config.source}: generation_parameters: {error}") from error


def class_studies(config: StudyConfig) -> dict[str, StudyConfig]:
    """Label -> the same study as one of that class alone; of a study of one category, that one."""
    named = {label: one.category for label, one in config.classes.items()}
    if not named:
        assert config.category is not None
        named = {config.positives or open_category(config).name: config.category}
    return {
        label: config.model_copy(update={"category": category, "classes": {}, "positives": label})
        for label, category in named.items()
    }


def compile_space(category: Category, where: str) -> PromptSpace:
    """All that the category varies."""
    try:
        return category_space(category)
    except TemplateError as error:
        key = "negative_template" if error.source == "negative_template" else "template"
        raise StudyError(f"{where}: category {category.name}: {key}: {error}") from error
    except ValueError as error:
        raise StudyError(f"{where}: category {category.name}: generation_parameters: {error}") from error
