"""What a process says of itself when it joins: the task and the model that it was built for."""

from ostrakon.common.digest import DIGEST_SCHEME
from ostrakon.common.layout import Layout, layout_digest
from ostrakon.v1 import parameter_server_pb2 as pb

LAYOUT_BYTES = 32 << 10  # of the layout that are sent: what comes after is known by its digest alone


def introduction(task: str, parameters: int, layout: Layout = (), constants: str = "") -> pb.JoinRequest:
    """The part of a JoinRequest that stays the same as long as this process lives.

    Args:
        task: its name and options, see `TakingPart.built_for`.
        parameters: d.
        layout: which parameter lies where in theta; without it the server compares d alone.
        constants: digest of what the model holds beside theta, see `FixedPart.digest`.
    """
    request = pb.JoinRequest(task=task, parameters=parameters, digest_scheme=DIGEST_SCHEME, constants=constants)
    if layout:
        request.layout_digest = layout_digest(layout)
    left = LAYOUT_BYTES
    for name, shape in layout:
        parameter = pb.Parameter(name=name, shape=shape)
        left -= parameter.ByteSize() + 4  # and its own header
        if left < 0:
            break
        request.layout.append(parameter)
    return request
