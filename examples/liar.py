"""A worker that lies, without a model or data: python liar.py NAME SERVER PARAMETERS, in place of an honest one."""

import sys

import numpy as np

from ostrakon import Worker


def main(name: str, server: str, parameters: str) -> None:
    tls = {"ca": "certificates/ca.pem", "certificate": f"certificates/worker-{name}.pem"}
    with Worker(parameters=int(parameters), server=server, tls=tls | {"key": f"certificates/worker-{name}.key"}) as w:
        for round in w:
            round.submit(100 * np.random.standard_normal(int(parameters)))
            round.vote("outer")


if __name__ == "__main__":
    main(*sys.argv[1:])
