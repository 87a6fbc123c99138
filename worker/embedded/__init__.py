"""A worker inside a training loop of one's own: `from ostrakon import Worker`.

`worker.py` opens and closes, `round.py` is what a loop does in a round. What both stand on: `model.py` moves theta into
a model and gradients out of it, `judging.py` makes a ballot of two candidates, `network_thread.py` keeps the network
apart from a loop that waits for nobody. The rounds themselves are the driver's, `ostrakon.worker.rounds`.
"""
