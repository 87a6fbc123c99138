"""What corrupted workers of a test bed do: pure functions, and the names that users write for them."""

from ostrakon.worker.attacks.naming import attack, attack_schedule, needs_colluders
from ostrakon.worker.attacks.registry import ATTACKS, Attack, Knows
from ostrakon.worker.attacks.tailored import Defence
from ostrakon.worker.attacks.votes import PIVOTAL, RANDOM, VOTES, pivotal

__all__ = [
    "ATTACKS",
    "PIVOTAL",
    "RANDOM",
    "VOTES",
    "Attack",
    "Defence",
    "Knows",
    "attack",
    "attack_schedule",
    "needs_colluders",
    "pivotal",
]
