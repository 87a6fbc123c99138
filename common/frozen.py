"""Imported last by the process that others are forked from.

What has been imported by then is there for good. A garbage collection in a forked process would look through all of it,
and so copy the memory that it shares with the others.
"""

import gc

gc.collect()
gc.freeze()
