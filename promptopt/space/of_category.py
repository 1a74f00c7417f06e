"""A category's words, negative words and generation parameters as one `PromptSpace`."""

from typing import Any

from promptopt.base.settings import Settings
from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.space import Candidate, PromptSpace, TemplateError, beside, compile_template
from promptopt.space.prompt_lines import PromptFileError, read_prompt_lines
from promptopt.space.weighted import escaped
from studies.category import CATEGORIES, SHIPPED, Category, CategoryError, check_category, load_category


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
    """The category, shipped by name, a YAML file, or written in the study, with what the study puts in
    place of its own: generation parameters, a list of prompts, the baseline.
    """
    chosen = config.category
    try:
        if isinstance(chosen, dict):
            return _of_study(check_category(Settings(chosen, f"{config.source}: category")), config)
        found = load_category(str(chosen))
    except (CategoryError, OSError) as error:
        if isinstance(chosen, dict):
            raise StudyError(str(error)) from error
        raise StudyError(
            f"{config.source}: category: {config.as_written(chosen)!r} cannot be used: {error}\n"
            f"Write one of {', '.join(SHIPPED)}, the path of a category YAML, or its content."
        ) from error
    return _of_study(found, config)


def _of_study(category: Category, config: StudyConfig) -> Category:
    found = _with_prompts(category, config)
    try:
        return found.with_generation_parameters(config.generation_parameters)
    except CategoryError as error:
        raise StudyError(f"{config.source}: generation_parameters: {error}") from error


def class_studies(config: StudyConfig) -> dict[str, StudyConfig]:
    """Label -> the same study as one of that class alone; of a study of one category, that one."""
    if not config.classes:
        label = config.positives or open_category(config).name
        return {label: config.model_copy(update={"positives": label})}
    return {
        label: config.model_copy(update={**dict(one), "classes": {}, "positives": label})
        for label, one in config.classes.items()
    }


def _with_prompts(category: Category, config: StudyConfig) -> Category:
    """The category with the study's own prompts, each as it is, and baseline."""
    changes: dict[str, Any] = {}
    if config.baseline is not None:
        changes["baseline"] = config.baseline
    if config.prompts is not None:
        try:
            lines = read_prompt_lines(config.prompts).prompts
        except PromptFileError as error:
            raise StudyError(f"{config.source}: prompts: {error}") from error
        different = {Candidate(line.text).normalized_key: line.text for line in reversed(lines)}
        options = [escaped(text) for text in reversed(different.values())]
        changes |= {"template": "__prompt__", "wildcards": {"prompt": options}, "negative_template": None}
    if changes and config.category in CATEGORIES:  # what a category of your own would say
        others = {name: load_category(name).texts for name in CATEGORIES if name != category.name}
        changes["distractors"] = {**others, **category.distractors}
    return category.model_copy(update=changes)


def compile_space(category: Category, where: str) -> PromptSpace:
    """All that the category varies."""
    try:
        return category_space(category)
    except TemplateError as error:
        key = "negative_template" if error.source == "negative_template" else "template"
        raise StudyError(f"{where}: category {category.name}: {key}: {error}") from error
    except ValueError as error:
        raise StudyError(f"{where}: category {category.name}: generation_parameters: {error}") from error
