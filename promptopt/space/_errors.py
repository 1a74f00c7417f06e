"""The one error of the prompt language."""

from promptopt.base.errors import PromptoptError


class TemplateError(PromptoptError, ValueError):
    """A template that cannot be compiled: where, what, and what would be right.

    Attributes: `source` ("template", or the wildcard option that holds the fault), `line` and `column` (both
    from 1, of `source`), `problem`, `remedy`.
    """

    def __init__(self, problem: str, remedy: str, *, text: str, offset: int, source: str) -> None:
        line = text.count("\n", 0, offset) + 1
        start = text.rfind("\n", 0, offset) + 1
        column = offset - start + 1
        end = text.find("\n", start)
        shown = text[start : end if end >= 0 else len(text)]
        # Tabs stay tabs in the caret line, so that the caret stands under its character at any tab width.
        indent = "".join("\t" if character == "\t" else " " for character in shown[: column - 1])
        super().__init__(
            f"{source}, line {line}, column {column}: {problem}\n  {shown}\n  {indent}^\n{remedy}"
        )
        self.source, self.problem, self.remedy = source, problem, remedy
        self.line, self.column = line, column
