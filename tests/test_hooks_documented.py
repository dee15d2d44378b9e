"""Every hook has a page in docs/hooks.md with its exact signature and an example, and a test named after it."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from sfumato import hookspecs

ROOT = Path(__file__).parent.parent
HOOKS: dict[str, Any] = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "sfumato_spec")}
PAGES = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", (ROOT / "docs" / "hooks.md").read_text("utf-8"), re.DOTALL | re.MULTILINE))


def test_the_pages_are_those_of_the_hooks_in_their_order() -> None:
    assert list(PAGES) == list(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_page_has_the_exact_signature(hook: str) -> None:
    signature = str(inspect.signature(HOOKS[hook])).replace("'", "")
    assert f"```python\n{hook}{signature}\n```" in PAGES[hook]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_page_says_when_and_in_which_thread(hook: str) -> None:
    assert "When: " in PAGES[hook]
    assert re.search(r"\bThread:\s", PAGES[hook])


@pytest.mark.parametrize("hook", HOOKS)
def test_a_page_has_an_example_that_asks_only_for_what_the_hook_has(hook: str) -> None:
    examples = [ast.parse(block) for block in re.findall(r"```python\n(.*?)```", PAGES[hook], re.DOTALL) if "@hookimpl" in block]
    functions = [each for example in examples for each in ast.walk(example) if isinstance(each, ast.FunctionDef) and each.name == hook]
    assert functions
    known = set(inspect.signature(HOOKS[hook]).parameters)
    assert {argument.arg for function in functions for argument in function.args.args} <= known


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_docstring_and_a_test_named_after_it(hook: str) -> None:
    assert inspect.getdoc(HOOKS[hook])
    named = re.compile(rf"^def test_{hook}\(", re.MULTILINE)
    assert any(named.search(path.read_text("utf-8")) for path in (ROOT / "tests").rglob("test_*.py"))
