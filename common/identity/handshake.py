"""Why TLS with a server fails, which gRPC does not say."""

import socket
import ssl

from ostrakon.common.settings import TlsFiles

_REFUSALS = 3  # in a row, for which no accident of the network stands


def handshake_failure(address: str, tls: TlsFiles, timeout: float = 3) -> str | None:
    """Why TLS with a server fails, which gRPC reports only as unavailable.

    Opens connections of its own, for at most `timeout` seconds each: more than one only where each was closed as soon
    as it stood, as a server does that refuses a certificate, and a network now and then.

    Args:
        address: HOST:PORT.
        tls: files that `Credentials.load` has accepted.

    Returns:
        A sentence, or None if the handshake is fine, nobody listens there, or the connection broke.
    """
    for _ in range(_REFUSALS):
        try:
            if not _closed_once_shaken(address, tls, timeout):
                return None
        except _Failure as failure:
            return str(failure)
    return str(_refused(address, tls, "connection closed"))


class _Failure(Exception):
    """What no waiting will mend, in a sentence."""


def _closed_once_shaken(address: str, tls: TlsFiles, timeout: float) -> bool:
    """Whether the server closed the connection right after a handshake that went well.

    Raises:
        _Failure: it did not go well.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    shaken = False
    try:
        with (
            socket.create_connection((host, int(port)), timeout / 3) as plain,
            context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False) as secured,
        ):
            secured.do_handshake()
            shaken = True
            # In TLS 1.3 a client is refused after its own handshake has ended: that comes with the first read.
            # An HTTP/2 server that accepts us sends its settings at once.
            return not secured.recv(1)
    except ssl.SSLCertVerificationError as error:
        raise _Failure(
            f"the certificate of the server at {address} is not accepted ({error.verify_message}): "
            f"it has to be signed by the authority in {tls.ca} and to name {host}"
        ) from None
    except ssl.SSLEOFError:  # closed: by a proxy that does not reach the server, say
        return shaken
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        if "alert" not in reason:
            raise _Failure(
                f"the server at {address} does not speak TLS as expected ({reason}): check address and port"
            ) from None
        raise _refused(address, tls, reason) from None
    except (ConnectionResetError, BrokenPipeError):
        return shaken
    except OSError:
        return False


def _refused(address: str, tls: TlsFiles, reason: str) -> _Failure:
    return _Failure(
        f"the server at {address} refuses our certificate {tls.certificate} ({reason}): "
        "it has to be signed by the authority that the server trusts"
    )
