"""For mkdocs: README.md is the site's first page and benchmarks/README.md one more, with links that fit there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FROM_ELSEWHERE = {"index.md": ROOT / "README.md", "benchmarks.md": ROOT / "benchmarks" / "README.md"}
_LINK = re.compile(r"\]\(([^)#\s]+)((?:#[^)\s]*)?)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for name, path in FROM_ELSEWHERE.items():
        files.append(File.generated(config, name, content=path.read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as they are on the site; to files that are no page, their name alone."""
    source = FROM_ELSEWHERE.get(page.file.src_uri, ROOT / "docs" / page.file.src_uri)
    return re.sub(r"\[([^]]*)" + _LINK.pattern, lambda found: _fitted(found, source.parent, files), markdown)


def _fitted(found: re.Match[str], folder: Path, files: Files) -> str:
    text, target, anchor = found.groups()
    if "://" in target or target.startswith("mailto:"):
        return found[0]
    whole = (folder / target).resolve()
    elsewhere = {path: name for name, path in FROM_ELSEWHERE.items()}
    if whole in elsewhere:
        return f"[{text}]({elsewhere[whole]}{anchor})"
    inside = whole.relative_to(ROOT / "docs").as_posix() if whole.is_relative_to(ROOT / "docs") else ""
    if files.get_file_from_path(inside) is not None:
        return f"[{text}]({inside}{anchor})"
    return text if whole.exists() else found[0]
