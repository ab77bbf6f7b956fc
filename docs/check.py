"""Check the documentation: links and anchors resolve, and the CLI reference is what the CLI says.

    python docs/check.py

Every `*.md` of the repository is read. A link must lead to a file or folder inside it, and
its `#anchor` to a heading (spelled as the common repository hosts spell them) or to an
explicit `id`. Addresses with a scheme are left alone: a check must not need the network.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
MADE = {"build", "demo-output", "dist", "node_modules"}  # folders that hold no pages of ours

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
INLINE = re.compile(r"\]\(\s*<?([^()\s<>]+(?:\([^()\s]*\)[^()\s]*)*)>?(?:\s+[\"'(][^)]*)?\)")
DEFINED = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)>?")
HTML = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=[\"']([^\"']+)[\"']")
IDENTIFIER = re.compile(r"<[^>]*?\b(?:id|name)=[\"']([^\"']+)[\"']")
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:|^//", re.IGNORECASE)


def main() -> int:
    found = [*broken_links(), *stale_reference()]
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"docs: {len(pages())} pages, {len(found)} problems")
    return 1 if found else 0


@cache
def pages() -> tuple[Path, ...]:
    """All Markdown outside hidden and made folders."""
    return tuple(
        path
        for path in sorted(ROOT.rglob("*.md"))
        if not any(
            part.startswith(".") or part in MADE for part in path.relative_to(ROOT).parts[:-1]
        )
    )


def broken_links() -> Iterator[str]:
    for page in pages():
        for number, target in links(page):
            problem = wrong(page, target)
            if problem:
                yield f"{page.relative_to(ROOT)}:{number}: {target}: {problem}"


def links(page: Path) -> Iterator[tuple[int, str]]:
    for number, line in prose(page):
        bare = CODE.sub("", line)
        for pattern in (INLINE, DEFINED, HTML):
            for match in pattern.finditer(bare):
                yield number, match[1]


def wrong(page: Path, target: str) -> str | None:
    """What is wrong with a link, or None."""
    if SCHEME.match(target):
        return None
    name, _, anchor = target.partition("#")
    name = unquote(name)
    if name.startswith("/"):
        return "a link is relative to its page: others read it on disk"
    path = (page.parent / name).resolve() if name else page
    if not path.is_relative_to(ROOT):
        return "leads out of the repository"
    if not path.exists():
        return "no such file"
    if anchor and path.suffix == ".md" and unquote(anchor) not in anchors(path):
        return "no such heading"
    return None


@cache
def anchors(page: Path) -> frozenset[str]:
    """Headings as the hosts spell them: `## Two words!` is `#two-words`, the second one `-1`."""
    seen: dict[str, int] = {}
    named: set[str] = set()
    for _, line in prose(page):
        named.update(IDENTIFIER.findall(line))
        heading = HEADING.match(line)
        if heading:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])  # a link: its text
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = seen[slug] = seen.get(slug, -1) + 1
            named.add(f"{slug}-{count}" if count else slug)
    return frozenset(named)


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page outside its fenced code."""
    fence = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        mark = FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            yield number, line


def stale_reference() -> Iterator[str]:
    """`docs/reference/cli.md` is written by the CLI itself, and must be what it would write now."""
    page = ROOT / "docs" / "reference" / "cli.md"
    name = page.relative_to(ROOT)
    made = subprocess.run(
        [sys.executable, "-m", "counterseal.cli.reference"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if made.returncode != 0:
        yield f"{name}: counterseal.cli.reference failed: {made.stderr.strip()[-400:]}"
    elif not page.is_file():
        yield f"{name}: is missing: python -m counterseal.cli.reference > {name}"
    elif page.read_text(encoding="utf-8") != made.stdout:
        yield f"{name}: is out of date: python -m counterseal.cli.reference > {name}"


if __name__ == "__main__":
    sys.exit(main())
