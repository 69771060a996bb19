"""The site of the docs: it is built without a warning and without a network, and its links lead
somewhere."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="needs the extra docs: pip install mkdocs-material")
    pytest.importorskip("mdx_truly_sane_lists", reason="needs the extra docs")
    out = tmp_path_factory.mktemp("site")
    nowhere = "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "http_proxy": nowhere, "https_proxy": nowhere},
    )
    assert done.returncode == 0, done.stderr
    return out


def addresses(page):
    """What a page links to, and what it loads."""
    text = page.read_text()
    links = re.findall(r'<(?:a|link)\b[^>]*?\bhref="?([^" >]+)', text)
    return links, re.findall(r'<(?:img|script)\b[^>]*?\bsrc="?([^" >]+)', text)


def test_each_link_of_the_site_leads_somewhere(site):
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > 20
    for page in pages:
        links, loaded = addresses(page)
        for address in links + loaded:
            target, anchor = urldefrag(unescape(address))
            if re.match(r"(https?|mailto):", target):
                continue
            path = (page.parent / unquote(target)).resolve() if target else page
            assert path.is_file(), (page.name, address)
            if anchor and path.suffix == ".html" and not anchor.startswith("__"):
                assert re.search(rf'\bid="?{re.escape(unquote(anchor))}["\s>]', path.read_text()), (
                    page.name,
                    address,
                )


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert not [address for address in addresses(page)[1] if "//" in address], page.name
        assert 'rel="stylesheet" href="http' not in page.read_text()


def test_the_site_has_the_help_of_each_command_and_each_function(site):
    tools, functions = ((site / name).read_text() for name in ("tools.html", "functions.html"))
    for name in ("kp-prep-ibug", "kp-train", "kp-viz-edit", "kp-heatmap-decode"):
        assert f'id="{name}"' in tools
    for name in ("train", "predict", "evaluate", "read_records"):
        assert f'id="{name}"' in functions
