"""What all pictures have in common: colours, and how they become a file."""

from io import BytesIO

from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TEXT, QUIET, GRID = "#1a1a1a", "#666666", "#e4e4e4"


def as_png(figure: Figure) -> bytes:
    """The bytes of the file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "Ostrakon"})
    return buffer.getvalue()
