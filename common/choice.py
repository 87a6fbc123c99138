"""Which of a round's two candidates."""

from typing import Literal

Choice = Literal["inner", "outer"]
