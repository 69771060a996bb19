"""What the site has beside the pages of this folder: made from README.md, CHANGELOG.md,
CONTRIBUTING.md, from each tool's --help, and from docstrings.

The pages of the repository link to each other as files of it, so that they can be read there, too;
here those links are turned to what the site has.
"""

import inspect
import os
import posixpath
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

import kptools
from kptools.__main__ import TOOLS

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "index.md": "README.md",
    "changes.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", flags=re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the files of the repository that pages link to."""
    made = {name: (ROOT / source).read_text() for name, source in PAGES.items()}
    made |= {"tools.md": tools(), "functions.md": functions()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for page in [file for file in files if file.is_documentation_page()]:
        for _, target, _ in _LINK.findall(page.content_string):
            path = _in_repository(page.src_uri, target)
            name = str(path.relative_to(ROOT)) if path is not None else ""
            if name and files.get_file_from_path(name) is None and not _is_page(name):
                file = File.generated(config, name, abs_src_path=str(path))
                file.inclusion = InclusionLevel.NOT_IN_NAV
                files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page, its links to files of the repository turned to those of the site."""

    def turned(match: re.Match[str]) -> str:
        path = _in_repository(page.file.src_uri, match[2])
        if path is None:
            return match[0]
        name = str(path.relative_to(ROOT))
        return f"{match[1]}{_site_name(name)}{match[3]}"

    parts = _CODE.split(markdown)
    return "".join(part if i % 2 else _LINK.sub(turned, part) for i, part in enumerate(parts))


def _is_page(name: str) -> bool:
    return name.startswith("docs/") or name in PAGES.values()


def _site_name(name: str) -> str:
    """Where the site has a file of the repository; all pages lie side by side."""
    made = {source: page for page, source in PAGES.items()}
    return made.get(name, name.removeprefix("docs/"))


def _in_repository(page: str, target: str) -> Path | None:
    """The file of the repository that a page links to; None for an address, or what is not there
    (mkdocs reports that)."""
    if ":" in target:
        return None
    source = PAGES.get(page, f"docs/{page}")
    path = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return path if path.is_file() else None


def tools() -> str:
    """A page of what each command prints with --help."""
    with ThreadPoolExecutor() as pool:
        helps = dict(zip(TOOLS, pool.map(_help, TOOLS), strict=True))
        words = [(tool, sub) for tool in TOOLS for sub in _commands(helps[tool])]
        subs = dict(zip(words, pool.map(lambda word: _help(*word), words), strict=True))
    parts = ["# Tools\n\nWhat each tool prints with `--help`.\n"]
    for tool, line in TOOLS.items():
        parts.append(f"## {tool}\n\n{line[0].upper()}{line[1:]}.\n\n```text\n{helps[tool]}\n```\n")
        for (of, sub), text in subs.items():
            if of == tool:
                parts.append(f"### {tool} {sub}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _help(tool: str, *more: str) -> str:
    module = f"kptools.cli.{tool.removeprefix('kp-')}"
    code = f"import sys; sys.argv[0] = {tool!r}; from {module} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *more, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "88", "PYTHONPATH": str(ROOT)},
    )
    return done.stdout.strip("\n")


def _commands(text: str) -> list[str]:
    """The commands that a help lists."""
    listed = text.partition("\nCommands:\n")[2]
    return re.findall(r"^  ([a-z][a-z-]*)  ", listed, flags=re.M)


def functions() -> str:
    """A page of the public functions: signatures and docstrings."""
    parts = [
        "# Functions\n\nWhat `import kptools as kp` has, and what `help(kp.train)` prints. "
        "[In a notebook](python.md) shows them at work.\n"
    ]
    for name in kptools.__all__:
        function = getattr(kptools, name)
        if inspect.isfunction(function):
            head = inspect.getsource(function).partition('    """')[0].rstrip()
            text = _with_fences(inspect.getdoc(function) or "")
            parts.append(f"## {name}\n\n```python\n{head}\n```\n\n{text}\n")
    return "\n".join(parts)


def _with_fences(text: str) -> str:
    """A docstring, the examples in it as code."""
    blocks = text.split("\n\n")
    return "\n\n".join(f"```pycon\n{b}\n```" if b.startswith(">>>") else b for b in blocks)
