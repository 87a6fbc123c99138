"""Certificates that are renewed under a running process: it takes the new files up by itself."""

import grpc
import structlog

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Role
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.settings import TlsFiles
from ostrakon.common.watched_files import WatchedFiles

log = structlog.get_logger()


class RenewableCredentials:
    """The credentials in a process's three files, read anew when one of them has changed."""

    def __init__(self, tls: TlsFiles, role: Role) -> None:
        """Raises:
        OstrakonError: they cannot be used, see `Credentials.load`.
        """
        self._tls = tls
        self._role = role
        self._files = WatchedFiles(tls.ca, tls.certificate, tls.key)
        self.current = Credentials.load(tls, role)

    def renewed(self) -> bool:
        """Take up what has changed; returns whether `current` is another one now.

        Files that cannot be used, or name another process, change nothing; that is logged once.
        """
        if not self._files.changed():
            return False
        try:
            found = Credentials.load(self._tls, self._role)
        except OstrakonError as error:
            log.warning("certificate not renewed yet", why=str(error))
            return False
        if found.identity != self.current.identity:
            log.warning("certificate not renewed", why=f"it is now {found.identity.urn}", was=self.current.identity.urn)
            return False
        if found == self.current:
            return False
        self.current = found
        log.info("certificate renewed", identity=found.identity.urn, until=f"{found.until:%Y-%m-%d %H:%M}")
        return True

    def server_credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`; asked for at each new connection, which gets the newest certificate."""

        # A configuration only where there is a new one: gRPC changes over to it while other connections shake hands. If
        # it had to each time, a thousand of them at once would corrupt its memory.
        def configuration() -> grpc.ServerCertificateConfiguration | None:
            return self.current.server_configuration() if self.renewed() else None

        return grpc.dynamic_ssl_server_credentials(
            self.current.server_configuration(),
            configuration,  # type: ignore[arg-type]  # None says that nothing has changed
            require_client_authentication=True,
        )
