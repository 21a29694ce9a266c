"""The package's own layout: no file imports, by whatever way round, a file that imports it; few stand at the root.

And its prose: what a function does and a class holds begins with a verb, loops name what they go over, and no file has
more than one can read at once.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"snn_policy": ROOT / "snn_policy", "snn_policy.wrappers": ROOT / "wrappers",
            "snn_policy.exported": ROOT / "exported", "benchmarks": ROOT / "benchmarks",
            "examples": ROOT / "examples"}  # fmt: skip
OURS = ("snn_policy", "snn_policy.wrappers", "snn_policy.exported")
MOST_AT_ROOT = 17
MOST_LINES = 340
VERBS = """
Accept Account Act Add Adjust Allow Answer Append Apply Ask Assign Average Become Begin Bind Block Bring Build
Call Cancel Carry Catch Change Check Choose Clear Clip Close Collect Combine Compare Compile Compress Compute
Connect Consume Contain Convert Convolve Copy Count Cover Create Cut Decide Declare Decode Define Delay Describe
Distil Divide Do Draw Drop Encode End Estimate Evaluate Explain Export Extend Fail Feed Fill Find Fire Fit
Flatten Flush Fold Follow Forbid Force Forget Gather Generate Give Group Guard Hand Hide Hold Ignore Implement
Import Index Infer Insert Inspect Integrate Interpret Join Judge Keep Know Label Lead Learn Leave Let Limit Link
List Live Load Lock Log Lower Make Map Mark Match Measure Meet Merge Mirror Move Multiply Name Normalise Note
Open Order Pack Pad Parse Pass Permute Pick Place Plan Play Pool Predict Prepare Print Prune Put Quantise Raise
Rank Read Rebuild Receive Recognise Record Reduce Refuse Reject Release Remember Remove Rename Repeat Replace
Report Represent Require Reset Reshape Resolve Restore Return Rewrite Round Run Save Say Scale Search See Select
Send Serve Set Show Shrink Silence Simulate Skip Slice Solve Sort Split Stack Stand Start Step Stop Store
Subtract Sum Summarise Swap Switch Take Tell Test Time Trace Train Transpose Try Turn Undo Unpack Update Use
Validate Verify Visit Wait Warn Watch Wrap Write Yield
"""
"""First words of docstrings. Another verb may be added; "Whether", "The" and "What" are none."""
FIRST_WORDS = frozenset(VERBS.split())
Imports = dict[str, set[str]]


def read_modules() -> dict[str, tuple[ast.Module, str]]:
    """Return every module of the package by its dotted name: parsed, and the package that it stands in."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            parts = [part for part in file.relative_to(folder).with_suffix("").parts if part != "__init__"]
            name = ".".join((package, *parts))
            inside = name if file.stem == "__init__" else name.rpartition(".")[0]
            found[name] = ast.parse(file.read_text()), inside
    return found


def imported(tree: ast.AST, modules: set[str], inside: str = "") -> Iterator[str]:
    """Yield the modules that the code imports, in functions too; not what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.orelse:
                yield from imported(statement, modules, inside)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = inside.split(".")[: inside.count(".") + 2 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            yield from names & modules
            if source in modules and names - modules:
                yield source
        elif not isinstance(node, ast.expr):  # which holds no statements
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


def files() -> list[Path]:
    """Return the package's own files."""
    return sorted(file for name in OURS for file in PACKAGES[name].rglob("*.py"))


def without_verb(text: str) -> list[str]:
    """Return the functions and classes whose docstring does not begin with a verb, as line and first word."""
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    docstrings = {node: ast.get_docstring(node) for node in ast.walk(ast.parse(text)) if isinstance(node, documented)}
    return [
        f"{node.lineno}: {node.name}: {docstring.split()[0]}"
        for node, docstring in docstrings.items()
        if docstring is not None and docstring.split()[0].rstrip(",;") not in FIRST_WORDS
    ]


def named_each(text: str) -> list[int]:
    """Return the lines in which something is called `each`."""
    if not re.search(r"\beach\b", text):
        return []
    names = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name | ast.arg))
    return [node.lineno for node in names if "each" in (getattr(node, "id", ""), getattr(node, "arg", ""))]


def test_docstrings_of_functions_and_classes_begin_with_a_verb() -> None:
    found = {file.relative_to(ROOT).as_posix(): without_verb(file.read_text()) for file in files()}
    assert len(found) > 200
    assert {name: places for name, places in found.items() if places} == {}


def test_nothing_is_called_each_in_tests_and_examples_either() -> None:
    everywhere = [
        *files(),
        *(file for folder in ("tests", "benchmarks", "examples") for file in ROOT.glob(f"{folder}/**/*.py")),
    ]
    found = {file.relative_to(ROOT).as_posix(): named_each(file.read_text()) for file in everywhere}
    assert len(found) > 400
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_no_file_has_more_than_340_lines() -> None:
    lengths = {file.relative_to(ROOT).as_posix(): len(file.read_text().splitlines()) for file in files()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize(
    ("docstring", "begins"),
    [
        ("Return the actions, (rows, actions).", True),
        ("Return, per row, the actions.", True),
        ("The actions.", False),
        ("Whether it fits.", False),
        ("What a bundle holds.", False),
        ("(rows,) booleans.", False),
        ("Returns the actions.", False),
        ("return the actions.", False),
        ("Args:\n    low: the bound.", False),
    ],
)
@pytest.mark.parametrize("of", ["def f():", "async def f():", "class F:", "class F:\n  def _f(self):"])
def test_docstrings_without_a_verb_are_found_wherever_they_stand(docstring: str, begins: bool, of: str) -> None:
    assert (without_verb(f"{of}\n    {docstring!r}") == []) is begins


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("for each in rows:\n    print(each)", [1, 2]),
        ("x = [each for each in rows]", [1, 1]),
        ("f = lambda each: 1", [1]),
        ("'each'\nfor row in rows: print('each', row.each)", []),
    ],
)
def test_each_is_found_as_a_name_only(text: str, lines: list[int]) -> None:
    assert sorted(named_each(text)) == lines
