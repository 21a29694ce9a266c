"""The documentation runs as it stands: every Python block, every command's options, every link between pages."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from snn_policy.cli import app
from snn_policy.commands.arguments import explicit_json_target

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = [
    place
    for folder in ("examples", "benchmarks", "snn_policy/commands")
    for place in sorted((ROOT / folder).glob("*.py"))
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"(?P<begin>^ {4,}(?:[A-Z_]+=\S+ )*|`)(?:[A-Z_]+=\S+ )*"
    r"(?P<program>snn-policy|python examples/[\w/]+\.py|python -m benchmarks\.\w+)(?P<rest>(?: [^`\n]*)?)",
    re.MULTILINE,
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
NEEDS = {"dm_control": "dm_control", "mujoco": "mujoco", "stable_baselines3": "stable_baselines3", "onnx": "onnx"}


def blocks() -> dict[str, str]:
    """The Python blocks of all pages, by page and number."""
    return {
        f"{page.name}-{number}": block
        for page in PAGES
        for number, block in enumerate(BLOCK.findall(page.read_text()), 1)
    }


BLOCKS = blocks()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small model.zip for HalfCheetah stands by, and what the README makes of it."""
    for package in NEEDS.values():
        pytest.importorskip(package)
    from stable_baselines3 import TD3

    from snn_policy import convert, load_actor

    directory = tmp_path_factory.mktemp("docs")
    TD3("MlpPolicy", "HalfCheetah-v5", policy_kwargs={"net_arch": [8, 8]}, buffer_size=1, device="cpu").save(
        directory / "model.zip"
    )
    actor = load_actor(directory / "model.zip")
    convert(actor, actor.collect("HalfCheetah-v5", steps=300)).export_onnx(directory / "run" / "cheetah")
    return directory


@pytest.mark.parametrize("name", BLOCKS)
def test_a_python_block_runs_by_itself(name: str, workplace: Path, request: pytest.FixtureRequest) -> None:
    if "pixels" in BLOCKS[name]:
        request.getfixturevalue("renderer")
    program = workplace / "block.py"
    program.write_text(BLOCKS[name])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, program.name], cwd=workplace, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_there_are_blocks_to_run() -> None:
    assert sum(name.startswith("README") for name in BLOCKS) == 3
    assert len(BLOCKS) >= 7


def commands() -> Iterator[tuple[str, str, str, bool]]:
    """(where, program, arguments, whole) of every command line that a page, an example or a help text shows.

    One on a line of its own is whole; one within a text may leave out what it is not about.
    """
    for file in (*PAGES, *PROGRAMS):
        text = file.read_text().replace("\\\n", " ")
        if file.suffix == ".py":
            tree = ast.parse(text)
            documented = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]
            text = "\n".join(ast.get_docstring(node, clean=False) or "" for node in documented)
            text = re.sub(r"\[/\]: snn-policy", "\n    snn-policy", text)
        for found in COMMAND.finditer(text):
            arguments = found["rest"].split("  #")[0].split(" # ")[0].strip().rstrip(",")
            yield file.name, found["program"], arguments, found["begin"] != "`"


COMMANDS = list(dict.fromkeys(commands()))


def parsed(arguments: list[str]) -> None:
    """Parse a line of `snn-policy` without running anything; raises what a user would see."""
    command: Any = get_command(app)
    context = command.make_context("snn-policy", explicit_json_target(arguments))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def known_options(words: list[str]) -> set[str]:
    """The options of the command that the words begin with."""
    command: Any = get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return {option for param in command.params for option in param.opts} | {"--help", "-h"}


@pytest.mark.parametrize(("where", "program", "arguments", "whole"), COMMANDS, ids=lambda text: str(text)[:60])
def test_a_command_that_is_shown_can_be_given(where: str, program: str, arguments: str, whole: bool) -> None:
    words = shlex.split(arguments)
    options = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
    if program != "snn-policy":
        module = program.removeprefix("python -m ").replace(".", "/") + ".py"
        file = ROOT / (module if " -m " in program else program.removeprefix("python "))
        assert file.is_file(), f"{where}: {program}"
        source = file.read_text()
        assert not [option for option in options if option not in source and option[2:].replace("-", "_") not in source]
    elif words[:1] not in (["COMMAND"], ["…"]):
        assert options <= known_options(words), f"{where}: {arguments}"
        if whole and "--help" not in words:
            parsed(words)


def test_the_commands_are_found() -> None:
    shown = [arguments for _, program, arguments, _ in COMMANDS if program == "snn-policy"]
    assert "compare model.zip run/cheetah --episodes 20" in shown
    assert "bench td3-HalfCheetah-v5 --engines event,numpy --json run/bench.json" in shown
    assert len(shown) > 25
    assert len(COMMANDS) - len(shown) > 25


@pytest.mark.parametrize("line", ["eval run/cheetah --episode 3", "convert model.zip --output", "compare"])
def test_a_command_that_cannot_be_given_would_be_found(line: str) -> None:
    words = line.split()
    options = {word for word in words if word.startswith("--")}
    if options <= known_options(words):
        with pytest.raises(Exception, match=r"[Mm]issing|requires an argument"):
            parsed(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def outside(page: Path) -> list[str]:
    """Return the links of a page that the site cannot follow: those that leave its folder."""
    links = [link for link in LINK.findall(page.read_text()) if "<" not in link]
    return [link for link in links if not (page.parent / link).resolve().is_relative_to(page.parent.resolve())]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_site_stay_on_it(page: Path) -> None:
    assert outside(page) == []


@pytest.mark.parametrize("link", ["../README.md", "../benchmarks/results/x.json", "assets/../../LICENSE#top"])
def test_a_link_that_leaves_the_site_would_be_found(link: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(f"See [it]({link}) and [that](other.md#here), [there](https://example.org/a).")
    assert outside(tmp_path / "page.md") == [link.partition("#")[0]]


def test_the_page_of_silent_faults_has_all_kinds_and_is_linked() -> None:
    text = (ROOT / "docs" / "silent-faults.md").read_text()
    assert [int(number) for number in re.findall(r"^\| \*\*(\d+)\.", text, re.MULTILINE)] == list(range(1, 15))
    assert "(docs/silent-faults.md)" in (ROOT / "README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert all(line.count(" | ") == 2 for line in rows)


def test_the_readme_leads_to_every_page_and_names_every_extra() -> None:
    text = (ROOT / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md") if not page.name.startswith(("api", "index"))}
    assert {name for name in pages if f"](docs/{name})" not in text} == set()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = text[text.index("\nExtras: ") :]
    assert {name for name in extras if f"`{name}`" not in named} == set()
