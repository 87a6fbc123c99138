"""Tables in Markdown, and the places on pages where generated ones stand."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ostrakon.common.errors import OstrakonError


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, without a line's end after it."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows))


def renew(page: Path, name: str, content: str) -> None:
    """Put content in its place on a page, between the lines `<!-- NAME -->` and `<!-- its end -->`.

    Raises:
        OstrakonError: the page has no such place.
    """
    start = f"<!-- {name} -->"
    place = re.compile(rf"(?<={re.escape(start)}\n).*?(?=<!-- its end -->)", re.DOTALL)
    text, places = place.subn(lambda _: f"\n{content}\n\n", page.read_text(encoding="utf-8"), count=1)
    if not places:
        raise OstrakonError(f"{page} has no line {start} with a line <!-- its end --> after it")
    page.write_text(text, encoding="utf-8")
