"""What outlives a server: the ledger, the models, the lock, and what is made of them when a run is opened or audited.

May touch `common`; knows of no call and of no open round.
"""
