"""The documentation names what there is, its links lead somewhere, and its commands parse."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from tests.conftest import ROOT
from vidembed import cli, errors, schema
from vidembed.encode.registry import ENTRIES
from vidembed.report import RunReport

if TYPE_CHECKING:
    from vidembed.config import Config

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
SHELL = ("console", "bash")
ERRORS = [
    name
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.VidembedError)
]
# The page on which a command's options are explained.
PAGE_OF = {
    "embed": "embed.md",
    "load": "milvus.md",
    "compact": "run-directory.md",
    "reindex": "reindex.md",
    "plan": "plan.md",
    "refresh": "refresh.md",
    "evaluate": "evaluate.md",
    "compare": "compare.md",
    "search": "search.md",
    "app": "app.md",
    "similarity": "search.md",
    "encoders": "encoders.md",
    "quickstart": "quickstart.md",
    "doctor": "quickstart.md",
}


def text(page) -> str:
    return page.read_text(encoding="utf-8")


def name(page) -> str:
    return str(page.relative_to(ROOT))


def blocks(page) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def prose(page) -> str:
    return re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)


def spellings(options: type[Config]) -> list[str]:
    """How the documentation must spell each option: as a flag, or in capitals."""
    return [
        f"`{field_name.upper()}`"
        if field.json_schema_extra
        else "`--" + (field.alias or field_name).replace("_", "-") + "`"
        for field_name, field in options.model_fields.items()
    ]


def command_lines(page) -> list[list[str]]:
    """The arguments of every call of vidembed, or of a job script, in the page's shell blocks."""
    found = []
    for language, content in blocks(page):
        if language not in SHELL:
            continue
        for line in content.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words and words[0] == "vidembed":
                found.append(words[1:])
            scripts = [w for w in words if re.fullmatch(r"jobs/\w+\.py", w)]
            if scripts:
                command = scripts[0].removeprefix("jobs/").removesuffix(".py")
                found.append([command, *words[words.index(scripts[0]) + 1 :]])
    return found


COMMAND_LINES = [
    pytest.param(words, id=f"{name(page)}: {' '.join(words)}")
    for page in PAGES
    for words in command_lines(page)
]


def slugs(page) -> set[str]:
    """The anchors of a page's headings, as mkdocs and code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", h).strip().lower() for h in headings]
    return {re.sub(r"[-\s]+", "-", h) for h in plain}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_of_a_command_is_on_its_page(command):
    page = text(DOCS / PAGE_OF[command])
    options = spellings(cli.COMMANDS[command].options)
    missing = [spelling for spelling in options if spelling not in page]
    assert not missing, f"docs/{PAGE_OF[command]} does not name {', '.join(missing)}"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_is_shown_in_the_readme_or_the_quick_start(command):
    shown = [w[0] for page in ("README.md", "docs/quickstart.md", "docs/milvus.md",
                               "docs/encoders.md") for w in command_lines(ROOT / page)]  # fmt: skip
    assert command in shown


@pytest.mark.parametrize("kind", errors.FAILURES)
def test_every_class_of_failure_has_a_row_with_cause_and_remedy(kind):
    row = re.search(rf"^\| `{kind}` \|(.+)\|(.+)\|$", text(DOCS / "embed.md"), re.MULTILINE)
    assert row, f"docs/embed.md has no row for {kind}"
    assert all(cell.strip() for cell in row.groups())


def test_the_failures_table_has_no_class_that_does_not_exist():
    section = text(DOCS / "embed.md").partition("\n## Failures\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(errors.FAILURES)


def test_the_manifest_page_lists_the_reserved_names():
    section = text(DOCS / "manifest.md").partition("\n## Metadata and reserved names\n")[2]
    listed = next(p for p in section.split("\n\n") if re.match(r"(`\w+`,?\s*)+$", p))
    assert set(re.findall(r"`(\w+)`", listed)) == schema.RESERVED


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("embeddings", schema.embeddings(4, pa.schema([])).names),
        ("failures", schema.FAILURES.names),
        ("report.json", [f.name for f in fields(RunReport)]),
    ],
)
def test_the_run_directory_page_lists_every_column_and_field(heading, columns):
    section = text(DOCS / "run-directory.md").partition(f"\n## {heading}\n")[2]
    table = section.partition("\n## ")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| ")]
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == set(columns)


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_documented(error):
    assert re.search(rf"^ +- {error}$", text(DOCS / "python.md"), re.MULTILINE)
    assert error in (errors.__doc__ or "")


@pytest.mark.parametrize("encoder", ENTRIES)
def test_every_encoder_has_a_row_and_a_page(encoder):
    row = rf"^\| \[`{encoder}`\]\(encoders/(.+?)\) \|"
    found = re.search(row, text(DOCS / "encoders.md"), re.MULTILINE)
    assert found
    page = text(DOCS / "encoders" / found[1])
    assert re.search(rf"--encoder {encoder}\b|`{encoder}`", page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in slugs(there), f"{name(page)} links to {target}"


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_every_command_line_parses_and_its_options_are_valid(words):
    given = vars(cli.make_parser().parse_args(words))
    command = cli.COMMANDS[given.pop("command")]
    from_file, _ = given.pop("config"), given.pop("debug")
    if from_file is None:
        command.options.make(given)
    else:
        assert set(given) <= set(command.options.model_fields)


def test_the_yaml_examples_are_options():
    import yaml

    found = [
        yaml.safe_load(content)
        for language, content in blocks(DOCS / "embed.md")
        if language == "yaml"
    ]
    assert found
    for options in found:
        cli.COMMANDS["embed"].options.make(options)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_examples_compile(page):
    for language, content in blocks(page):
        if language == "python":
            compile(content, name(page), "exec")


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"[\w/-]+\.md", text(ROOT / ".mkdocs.yml"))
    assert sorted(listed) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_placeholder_is_left(page):
    assert not re.findall(r"«[^»]*»", text(page))
