"""docs/ as a site: every link leads somewhere, every page is in it, and no page asks the network for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}, text=True, capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_docs_is_in_it(site: Path) -> None:
    wanted = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "benchmarks"}
    assert wanted <= {path.stem for path in site.glob("*.html")}
    assert {
        name for name in wanted - {"index"} if f"{name}.md" not in (ROOT / "mkdocs.yml").read_text()
    } == set()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loads: list[str] = []

    class Loads(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            named = dict(attrs)
            source = named.get("src") or (named.get("href") if tag == "link" else None)
            if source and re.match(r"(https?:)?//", source) and named.get("rel") != "canonical":
                loads.append(source)

    for page in site.glob("*.html"):
        Loads().feed(page.read_text("utf-8"))
    assert loads == []
    assert len(list(site.glob("*.html"))) > 10


def test_the_first_page_is_the_readme(site: Path) -> None:
    page = (site / "index.html").read_text("utf-8")
    assert "Four terminals" in page and 'href="strategies.html"' in page and 'src="picture.svg"' in page
