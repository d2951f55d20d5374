"""A proxy that ends TLS, with certificates of an authority that nobody trusts unless told to.

As a company's gateway does it, or a stranger in between. It takes ``CONNECT host:port`` (for
``HTTPS_PROXY``) and TLS right away (for ``https://127.0.0.1:port``), shows a certificate for the
host that was asked for, and hands on what comes after the handshake to a plain HTTP server::

    with tls_proxy(s3.endpoint_url) as proxy:
        ...                                   # HTTPS_PROXY=proxy.url, an https:// endpoint
        assert proxy.asked == ["s3.example.com:443"]
        assert proxy.received == b""          # nobody trusts it: nothing but the handshake
    with tls_proxy(s3.endpoint_url) as proxy:
        ...                                   # AWS_CA_BUNDLE=proxy.bundle(tmp_path): all gets there
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import trustme

_CHUNK = 1 << 16
_PATIENCE = 60.0
_TLS_HANDSHAKE = 0x16
"""The first byte of TLS."""


class TlsProxy:
    """Made by `tls_proxy`. Its attributes may be read from any thread.

    Attributes:
        asked: What ``CONNECT`` named, ``host:port`` each, in the order of arrival.
        refusals: Why a handshake failed, in the words of OpenSSL: one for each that did.
        shown: Certificates that clients showed, where they were asked for one.
    """

    def __init__(self, upstream: str, shows: str | None = None) -> None:
        url = urlsplit(upstream)
        if url.scheme != "http" or url.hostname is None or url.port is None:
            raise ValueError(f"upstream must be http://HOST:PORT, not {upstream!r}")
        self._upstream = (url.hostname, url.port)
        self._shows = shows
        self._authority = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._changed = threading.Condition()
        self._received = bytearray()
        self._handshakes = 0
        self._open: set[socket.socket] = set()
        self._errors: list[BaseException] = []
        self.asked: list[str] = []
        self.refusals: list[str] = []
        self.shown: list[bytes] = []
        self._asks = False
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._port: int = self._socket.getsockname()[1]
        self._closed = False
        self._threads = [threading.Thread(target=self._accept, name="tls-proxy", daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Its address as a proxy."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def https_url(self) -> str:
        """Its address as a server."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def received(self) -> bytes:
        """All that came after handshakes, decrypted: what a stranger would have read."""
        with self._changed:
            return bytes(self._received)

    @property
    def handshakes(self) -> int:
        """Handshakes that both sides finished."""
        with self._changed:
            return self._handshakes

    def bundle(self, folder: Path) -> str:
        """Write the authority's certificate to a file, for a client that is to trust it.

        Returns:
            The file's path.
        """
        path = folder / f"authority-{self._port}.pem"
        self._authority.cert_pem.write_to_path(path)
        return str(path)

    def client_certificate(self, folder: Path) -> tuple[str, str]:
        """Write a certificate for a client, and its key; return the two paths."""
        leaf = self._authority.issue_cert("client.example.com")
        certificate, key = folder / "client.pem", folder / "client.key"
        leaf.cert_chain_pems[0].write_to_path(certificate)
        leaf.private_key_pem.write_to_path(key)
        return str(certificate), str(key)

    def ask_for_certificates(self) -> None:
        """Ask clients for a certificate from now on."""
        with self._changed:
            self._asks = True
            self._contexts.clear()

    def wait_for_refusal(self, count: int = 1, timeout: float = _PATIENCE) -> None:
        """Wait until so many handshakes have failed.

        Raises:
            TimeoutError: They did not within `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.refusals) >= count, timeout):
                raise TimeoutError(
                    f"{len(self.refusals)} of {count} handshakes failed, {self._handshakes} did not"
                )

    def close(self) -> None:
        """Stop, and raise what went wrong in the proxy itself, which is a defect of it."""
        with self._changed:
            self._closed = True
            waiting = [*self._open]
        # A listening socket that is only closed would leave its accept() waiting.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for one in waiting:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE)
        if self._errors:
            raise self._errors[0]

    # -- in threads ---------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return  # closed
            with self._changed:
                if self._closed:
                    client.close()
                    return
                self._open.add(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            self._speak(client)
        except OSError:
            pass  # the client went away, or its server
        except BaseException as error:
            self._errors.append(error)
        finally:
            with self._changed:
                self._open.discard(client)
            client.close()

    def _speak(self, client: socket.socket) -> None:
        host = "127.0.0.1"
        first = client.recv(1, socket.MSG_PEEK)
        if not first:
            return
        if first[0] != _TLS_HANDSHAKE:
            head = _read_head(client)
            method, _, rest = head.partition(" ")
            target = rest.partition(" ")[0]
            if method != "CONNECT":
                client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                return
            with self._changed:
                self.asked.append(target)
                self._changed.notify_all()
            host = target.rpartition(":")[0].strip("[]")
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            secure = self._context(self._shows or host).wrap_socket(client, server_side=True)
        except (ssl.SSLError, ConnectionError) as error:
            with self._changed:
                self.refusals.append(str(error))
                self._changed.notify_all()
            return
        with self._changed:
            self._handshakes += 1
            if self._asks:
                self.shown.append(secure.getpeercert(binary_form=True) or b"")
            self._open.add(secure)
        try:
            with secure, socket.create_connection(self._upstream) as server:
                self._hand_on(secure, server)
        finally:
            with self._changed:
                self._open.discard(secure)

    def _hand_on(self, client: ssl.SSLSocket, server: socket.socket) -> None:
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        try:
            while data := client.recv(_CHUNK):
                with self._changed:
                    self._received += data
                    self._changed.notify_all()
                server.sendall(data)
        finally:
            for one in (server, client):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            back.join(_PATIENCE)

    def _context(self, host: str) -> ssl.SSLContext:
        with self._changed:
            if host not in self._contexts:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._authority.issue_cert(host).configure_cert(context)
                if self._asks:
                    self._authority.configure_trust(context)
                    context.verify_mode = ssl.CERT_OPTIONAL
                self._contexts[host] = context
            return self._contexts[host]


@contextmanager
def tls_proxy(upstream: str, *, shows: str | None = None) -> Iterator[TlsProxy]:
    """A proxy on a free port of 127.0.0.1 that ends TLS before a plain HTTP server.

    Args:
        upstream: ``http://HOST:PORT``; it gets the requests as they are, whatever host they name.
        shows: The host of the certificate that is shown, also to who asks for another one.
    """
    proxy = TlsProxy(upstream, shows)
    try:
        yield proxy
    finally:
        proxy.close()


def _read_head(client: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = client.recv(1)  # not a byte of the handshake that follows
        if not data:
            raise ConnectionResetError("the client went away within its request")
        head += data
    return head.decode("latin-1")


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
