"""Aggregation rules: what a round's vectors are made into.

Each rule is a pure function on an (n, d) tensor and one entry of the registry. Nothing here knows of workers' names,
rounds or the network. `ostrakon rules --n 35 --f 14` prints what there is.
"""

from ostrakon.common.aggregation.guarantees import Guarantee
from ostrakon.common.aggregation.means import Aggregate
from ostrakon.common.aggregation.naming import PRE_AGGREGATIONS, RULES, rule
from ostrakon.common.aggregation.pre_aggregations import PreAggregation
from ostrakon.common.aggregation.rule import BLOCK_BYTES, Cost, Rule

__all__ = [
    "BLOCK_BYTES",
    "PRE_AGGREGATIONS",
    "RULES",
    "Aggregate",
    "Cost",
    "Guarantee",
    "PreAggregation",
    "Rule",
    "rule",
]
