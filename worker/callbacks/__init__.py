"""The embedded worker inside other people's trainers: one optimizer step of theirs is one round.

Each file needs a package of its own, an extra of this one.
"""
