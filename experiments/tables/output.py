"""What is written of a plan, and where: CSV, Markdown and a picture in the folder of results, a part of a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ostrakon.common.files import write_atomically
from ostrakon.common.markdown import renew
from ostrakon.experiments.tables import figure1, pages, pictures
from ostrakon.experiments.tables.plan import Plan
from ostrakon.experiments.tables.plans import FIGURE1
from ostrakon.experiments.tables.summary import Filled

FIGURE1_TITLE = "Why one rule cannot be enough: sneak and siege"


@dataclass(frozen=True)
class Output:
    """A table or a figure as it is shown."""

    name: str
    title: str
    csv: str
    markdown: str
    png: bytes

    def write(self, folder: Path) -> list[Path]:
        """Write the three files; returns their paths.

        Raises:
            OSError: one cannot be written.
        """
        contents = {"csv": self.csv.encode(), "md": f"{self.markdown}\n".encode(), "png": self.png}
        for ending, content in contents.items():
            write_atomically(folder / f"{self.name}.{ending}", content)
        return [folder / f"{self.name}.{ending}" for ending in contents]

    def renew(self, page: Path) -> None:
        """Put it in its place on a page, between `<!-- NAME -->` and `<!-- its end -->`, and the picture beside it.

        Raises:
            OstrakonError: the page has no such place.
            OSError: a file cannot be read or written.
        """
        renew(page, self.name, f"{self.markdown}\n\n![{self.title}]({self.name}.png)")
        write_atomically(page.with_name(f"{self.name}.png"), self.png)


def output(plan: Plan, filled: Sequence[Filled], seeds: int) -> Output:
    """What is known of a plan."""
    return Output(
        plan.name,
        plan.title,
        pages.as_csv(plan, filled),
        pages.as_markdown(plan, filled, seeds),
        pictures.picture(plan, filled, seeds),
    )


def output_of_figure1() -> Output:
    """Figure 1, for which nothing has to be trained."""
    drawn = figure1.draw()
    return Output(FIGURE1, FIGURE1_TITLE, figure1.as_csv(drawn), figure1.as_markdown(drawn), figure1.picture(drawn))
