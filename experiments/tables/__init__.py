"""The paper's tables and figures, and others of the same kind: what they are made of, how they are run and shown.

A plan (`plans.py`) lists cells; each is one experiment over several seeds. A run's record is stored (`store.py`) under
a digest of all that it follows from, so that a table goes on where it was interrupted, and no run is computed twice.
What is to be computed (`runner.py`) goes to the processes of this machine (`pool.py`) or to a cluster (`cluster.py`).
"""
