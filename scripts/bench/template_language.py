"""The prompt language against dynamicprompts', over the templates of that project's own tests.

    pip download --no-binary dynamicprompts --no-deps dynamicprompts && tar xf dynamicprompts-*.tar.gz
    python scripts/bench/template_language.py dynamicprompts-*/tests [--differ]

Every text in those tests with a sign of the language is read by both. Wildcards are those of their test data;
each other name that a template asks for has two options of its own. Ours is enumerated; theirs is enumerated
(up to a limit) and drawn from, since what it draws and what it enumerates are not the same where a
wildcard's name or options hold variables. Where several options are taken, order does not count.
"""

import argparse
import ast
import logging
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from promptopt.space import TemplateError, compile_template, normalize

LIMIT, DRAWS = 3000, 1500
_SIGN = re.compile(r"[{}|$]|__|#|//")
_OTHER = re.compile(r"\{\{|\{%|%\}|https?://")  # Jinja's, and addresses
_DOCUMENTED = {
    "a way of sampling": "way of sampling",
    "wrapping": "wraps one text",
    "a brace outside of its pair": "outside of braces",
    "more options than there are": "there are only",
    "an unknown wildcard": "unknown wildcard",
    "a variable that is not set": "is not set",
}


def templates(tests: Path) -> Iterator[str]:
    """Texts of the tests with a sign of the language, docstrings and Jinja's left out, each once."""
    seen: set[str] = set()
    for path in sorted(tests.rglob("*.py")):
        if "jinja" in path.name or "jinja" in path.parent.name:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        skipped |= {id(p) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for p in node.values}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in skipped:
                continue
            text = node.value
            if len(text) > 2 and _SIGN.search(text) and not _OTHER.search(text) and text not in seen:
                seen.add(text)
                yield text


class Theirs:
    """That library, with the wildcards of its tests."""

    def __init__(self, tests: Path, found: list[str]) -> None:
        from dynamicprompts import generators
        from dynamicprompts.wildcards import WildcardManager

        logging.disable(logging.WARNING)
        own = WildcardManager(path=tests / "test_data" / "wildcards")
        lists = {name: list(own.get_values(name).string_values) for name in own.get_collection_names()}
        lists = {name: values for name, values in lists.items() if values}
        for name in re.findall(r"__[~!@]?([\w/ -]+?)(?:\([^)]*\))?__", " ".join(found)):
            lists.setdefault(name, [f"first {name}", f"second {name}"])
        self.wildcards = lists
        manager = WildcardManager(root_map={"": [lists]})
        self.ways = [
            (generators.CombinatorialPromptGenerator(manager), LIMIT),
            (generators.RandomPromptGenerator(manager, seed=0), DRAWS),
        ]

    def prompts(self, text: str) -> set[str]:
        random.seed(0)
        made: set[str] = set()
        for way, count in self.ways:
            made |= {str(prompt) for prompt in way.generate(text, count)}
        return made


def compared(text: str, theirs: Theirs) -> tuple[str, str]:
    """What became of a template, and why."""
    try:
        space: Any = compile_template(text, theirs.wildcards)
        mine = {space.render(choice) for _, choice in zip(range(LIMIT), space.enumerate(), strict=False)}
        refusal = None
    except TemplateError as error:
        refusal = f"{error.problem} {error.remedy}"
    try:
        made = theirs.prompts(text)
    except Exception as error:  # noqa: BLE001  a parser's, or whatever the library lets through
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        return ("refused alike", problem) if refusal else ("only ours reads it", problem)
    if refusal:
        kind = next((name for name, sign in _DOCUMENTED.items() if sign in refusal), None)
        return ("refused, documented", kind) if kind else ("refused", refusal)
    key = _letters if "$$" in text or any("$$" in one for one in theirs.wildcards.values()) else normalize
    left, right = {key(prompt) for prompt in mine}, {key(prompt) for prompt in made}
    if left == {key(prompt.replace("\\\\", "\\")) for prompt in made} != right:
        return "differ, documented", "a backslash"
    if left == right or (len(mine) == LIMIT and left & right):
        return "agree", ""
    return "differ", f"ours alone {sorted(left - right)[:2]}, theirs alone {sorted(right - left)[:2]}"


def _letters(prompt: str) -> str:
    return "".join(sorted(re.sub(r"\W", "", prompt)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tests", type=Path, help="the folder tests of dynamicprompts' source distribution")
    parser.add_argument("--differ", action="store_true", help="show every template that is not read alike")
    options = parser.parse_args()
    found = list(templates(options.tests))
    theirs = Theirs(options.tests, found)
    counts: dict[str, int] = {}
    for text in found:
        outcome, why = compared(text, theirs)
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome.endswith("documented"):
            counts[f"  {why}"] = counts.get(f"  {why}", 0) + 1
        if options.differ and outcome not in ("agree", "refused alike"):
            print(f"{outcome}: {text!r}\n    {why}")
    print(f"{len(found)} templates")
    for outcome in sorted(counts, key=lambda name: name.replace("  ", "refused, documented ")):
        print(f"{outcome}: {counts[outcome]}")


if __name__ == "__main__":
    main()
