"""Imported by a process that others are forked from: it draws the master glyphs, once for all of them."""

from contextlib import suppress

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.glyphs import masters

with suppress(OstrakonError):  # a font that cannot be read is told where the task is used
    masters()
