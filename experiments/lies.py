"""Who votes for what, once it is known which candidate each worker prefers."""

from collections.abc import Sequence

from ostrakon.common.choice import Choice
from ostrakon.experiments.experiment import Experiment
from ostrakon.worker.attacks import PIVOTAL, RANDOM, VOTES, pivotal
from ostrakon.worker.sampling import BYZANTINE_VOTE, generator


def ballots(experiment: Experiment, round: int, preferred: Sequence[Choice]) -> list[Choice]:
    """The votes that are cast: the honest for what they prefer, the corrupted as they were told.

    Args:
        preferred: of each worker in roster order, what it would vote if it were honest.
    """
    b, vote = experiment.byzantine, experiment.byzantine_vote
    honest = list(preferred[b:])
    if vote == "honest":
        return list(preferred)
    if vote == PIVOTAL:
        told = pivotal(honest.count("inner"), honest.count("outer"), b)
        return honest + [told] * b if told is not None else honest
    seed = experiment.seed
    # To set up a stream takes longer than the rest of a vote.
    own = [generator(seed, BYZANTINE_VOTE, worker, round) for worker in range(b if vote == RANDOM else 1)]
    lies = [VOTES[vote](preferred[worker], own[worker if vote == RANDOM else 0]) for worker in range(b)]
    return [lie for lie in lies if lie is not None] + honest
