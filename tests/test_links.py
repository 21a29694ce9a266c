"""Every link, anchor and picture of the pages leads somewhere; nothing is fetched. The API pages name what exists."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import snn_policy
import snn_policy.wrappers

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "examples", "benchmarks")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,}).*?^(?P=mark)[`~]*\s*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)(`+)(?!`)(.*?[^`])\1(?!`)", re.DOTALL)
LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)>?(?:\s+["'][^)]*["'])?\s*\)""")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.MULTILINE)
ATTRIBUTE = re.compile(r"""\b(?:src|srcset|href)\s*=\s*["']([^"']+)["']""")
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$", re.MULTILINE)
GIVEN_ANCHOR = re.compile(r"""<[^>]*\b(?:id|name)\s*=\s*["']([^"']+)["']""")
DOCUMENTED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
EXTERNAL = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


def prose(text: str) -> str:
    """Return the page without its code, in which nothing is a link."""
    return SPAN.sub("", FENCE.sub("", text))


def links(text: str) -> Iterator[str]:
    """Yield every target within the repository: of links, pictures and HTML attributes."""
    page = prose(text)
    for pattern in (LINK, REFERENCE):
        yield from (target for target in pattern.findall(page) if not EXTERNAL.match(target))
    for attribute in ATTRIBUTE.findall(page):
        targets = [part.split()[0] for part in attribute.split(",") if part.split()]
        yield from (target for target in targets if not EXTERNAL.match(target))


def slug(heading: str) -> str:
    """Return a heading's anchor as GitHub makes it: lower case, no punctuation, a hyphen for every space."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: of its headings (twice the same: -1, -2, …), its HTML, and its API entries."""
    page, found = FENCE.sub("", text), set(GIVEN_ANCHOR.findall(prose(text)))
    counts: dict[str, int] = {}
    for _, heading in HEADING.findall(page):
        anchor = slug(heading)
        number = counts.get(anchor, 0)
        counts[anchor] = number + 1
        found.add(f"{anchor}-{number}" if number else anchor)
    return found | set(DOCUMENTED.findall(page))


def broken(page: Path, text: str) -> list[str]:
    """Return one line for every link of the page that leads nowhere."""
    faults = []
    for link in links(text):
        path, _, anchor = unquote(link).partition("#")
        target = page if not path else (page.parent / path).resolve()
        if not target.is_relative_to(ROOT) and not target.is_relative_to(page.parent):
            faults.append(f"{link}: outside of the repository")
        elif not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(text if target == page else target.read_text("utf-8")):
            faults.append(f"{link}: no such heading")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    assert not broken(page, page.read_text("utf-8"))


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[a](there.md)", 0),
        ("[a](absent.md)", 1),
        ("[a](there.md#two-words)", 0),
        ("[a](there.md#two-word)", 1),
        ("[a](there.md#twice-1)", 0),
        ("[a](there.md#twice-2)", 1),
        ("[a](there.md#8-energy)", 0),
        ("[a](there.md#in-code)", 1),
        ("[a](there.md#pkg.entry)", 0),
        ("![picture](absent.png)", 1),
        ('<img src="absent.png" alt="a">', 1),
        ('<source srcset="there.md 1x, absent.png 2x">', 1),
        ("[![badge](absent.svg)](absent.md)", 2),
        ("[a]: absent.md", 1),
        ('[a](absent.md "title")', 1),
        ("[a](<absent.md>)", 1),
        ("[a](#here)\n\n# Here", 0),
        ("[a](#nowhere)\n\n# Here", 1),
        ("[a](../../etc/passwd)", 1),
        ("[a](https://example.org/absent) [b](mailto:a@example.org)", 0),
        ("`[a](absent.md)`\n\n```\n[a](absent.md)\n```", 0),
    ],
)
def test_the_check_finds_what_is_broken_and_nothing_else(text: str, faults: int, tmp_path: Path):
    (tmp_path / "there.md").write_text(
        "# Two words\n## Twice\n## Twice\n## 8. Energy\n```\n# In code\n```\n::: pkg.entry\n", "utf-8"
    )
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert len(broken(page, text)) == faults


def documented() -> list[str]:
    """Return the names that the API pages give to mkdocstrings."""
    return [name for page in (ROOT / "docs").glob("api*.md") for name in DOCUMENTED.findall(page.read_text("utf-8"))]


def resolved(name: str) -> Any:
    """Return what the name stands for; `wrappers` is where snn_policy.wrappers lies in the repository.

    A module of the name is preferred to a function of the same name, as in mkdocstrings.
    """
    path = re.sub(r"^wrappers\b", "snn_policy.wrappers", name)
    module, _, attribute = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", documented())
def test_the_api_pages_name_what_exists(name: str):
    assert not isinstance(resolved(name), type(importlib)), f"{name}: a module, not what it holds"


def test_the_api_pages_miss_nothing_that_is_public():
    names = {name.rpartition(".")[2] for name in documented()}
    public = {*vars(snn_policy)["__all__"], *vars(snn_policy.wrappers)["__all__"]}
    assert names >= public


def test_every_page_of_the_docs_has_a_place_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r"[\w./-]+\.md\b", navigation.partition("\nnav:")[2]))
    assert named == {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
