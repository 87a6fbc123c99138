"""Aggregation rules: what a round's vectors are made into.

Each rule is a pure function on an (n, d) tensor and one entry of the registry. Nothing here knows of workers' names,
rounds or the network.
"""

from common.aggregation.average import Aggregate
from common.aggregation.registry import RULES, Cost, Guarantee, Rule, rule

__all__ = ["RULES", "Aggregate", "Cost", "Guarantee", "Rule", "rule"]
