"""What corrupted workers of a test bed send: pure functions, and their names."""

from worker.attacks.registry import ATTACKS, Attack, attack

__all__ = ["ATTACKS", "Attack", "attack"]
