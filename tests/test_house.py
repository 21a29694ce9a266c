"""The package's own layout: no file imports, by whatever way round, a file that imports it; few stand at the root."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"snn_policy": ROOT / "snn_policy", "snn_policy.wrappers": ROOT / "wrappers",
            "snn_policy.exported": ROOT / "exported", "benchmarks": ROOT / "benchmarks",
            "examples": ROOT / "examples"}  # fmt: skip
MOST_AT_ROOT = 17
Imports = dict[str, set[str]]


def read_modules() -> dict[str, tuple[ast.Module, str]]:
    """Return every module of the package by its dotted name: parsed, and the package that it stands in."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            parts = [each for each in file.relative_to(folder).with_suffix("").parts if each != "__init__"]
            name = ".".join((package, *parts))
            inside = name if file.stem == "__init__" else name.rpartition(".")[0]
            found[name] = ast.parse(file.read_text()), inside
    return found


def imported(tree: ast.AST, modules: set[str], inside: str = "") -> Iterator[str]:
    """Yield the modules that the code imports, in functions too; not what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for each in node.orelse:
                yield from imported(each, modules, inside)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = inside.split(".")[: inside.count(".") + 2 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            yield from names & modules
            if source in modules and names - modules:
                yield source
        else:
            yield from imported(node, modules, inside)


def circles(imports: Imports) -> list[list[str]]:
    """Return the groups of modules that reach each other."""
    reached: Imports = {}
    for start in imports:
        seen, waiting = set(), list(imports[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += imports[module]
        reached[start] = seen
    tied = {frozenset({start} | {other for other in seen if start in reached[other]})
            for start, seen in reached.items() if start in seen}  # fmt: skip
    return sorted(sorted(group) for group in tied)


def imports_of(sources: dict[str, str]) -> Imports:
    """Return what each module of these texts imports."""
    names = set(sources)
    return {name: set(imported(ast.parse(text), names, name.rpartition(".")[0])) for name, text in sources.items()}


def test_no_module_imports_a_module_that_imports_it() -> None:
    modules = read_modules()
    assert len(modules) > 150
    names = set(modules)
    assert circles({name: set(imported(tree, names, inside)) for name, (tree, inside) in modules.items()}) == []


def test_at_most_17_modules_stand_at_the_root() -> None:
    assert len(list((ROOT / "snn_policy").glob("*.py"))) <= MOST_AT_ROOT


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"a": "import b", "b": "import a"}, [["a", "b"]]),
        ({"a": "def f():\n    from b import x", "b": "import c", "c": "from a import y"}, [["a", "b", "c"]]),
        ({"a": "from a import itself"}, [["a"]]),
        ({"a": "if TYPE_CHECKING:\n    import b", "b": "import a"}, []),
        ({"a": "import b", "b": "import c", "c": ""}, []),
        ({"p.a": "from . import b", "p.b": "from .a import x"}, [["p.a", "p.b"]]),
        ({"p": "from p.a import x", "p.a": "from p import a"}, [["p.a"]]),
    ],
)
def test_circles_are_found_whatever_form_the_import_has(sources: dict[str, str], expected: list[list[str]]) -> None:
    assert circles(imports_of(sources)) == expected
