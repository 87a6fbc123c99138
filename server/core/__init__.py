"""What a server decides, and what it holds while it does: a round, its candidates, its roster, its commit.

Reads and writes through what is handed in (ledger, store, clock). May touch `storage` and `common`; knows no gRPC.
"""
