"""An S3 that answers as AWS documents it, for what no server here can be: regions and their names.

Behind a proxy that ends TLS (``tests.support.tls``) it is every host of AWS's. A bucket that lives
in another region than the one that was asked answers 301 ``PermanentRedirect`` with the region in a
header, as "Error responses" in the S3 API reference has it. It checks no signatures.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9.-]+)\.)?s3(?:-(?:fips|accesspoint))?(?:\.dualstack)?"
    r"(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com"
)


@dataclass(frozen=True)
class Put:
    """A request to store an object.

    Attributes:
        host: As the client named it.
        path: Percent-decoded.
        headers: Names in lower case.
        body: What was to be stored.
        status: What it was answered.
    """

    host: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int


@dataclass
class AwsS3:
    """Made by `aws_s3`.

    Attributes:
        endpoint_url: Where it listens, for the proxy in front of it.
        regions: Buckets that live elsewhere than in the region that is asked, by name.
        puts: Every request to store an object, in the order of arrival.
    """

    endpoint_url: str
    regions: dict[str, str] = field(default_factory=dict)
    puts: list[Put] = field(default_factory=list)

    @property
    def stored(self) -> dict[str, bytes]:
        """What is there, by host and path."""
        return {f"{one.host}{one.path}": one.body for one in self.puts if one.status == 200}


@contextmanager
def aws_s3() -> Iterator[AwsS3]:
    """Serve on a free port of 127.0.0.1 until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            host, path = self.headers["Host"], unquote(self.path)
            found = _HOST.fullmatch(host)
            bucket = (found and found["bucket"]) or path.lstrip("/").partition("/")[0]
            asked = (found and found["region"]) or "us-east-1"
            lives = made.regions.get(bucket, asked)
            status = 200 if lives == asked else 301
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.puts.append(Put(host, path, headers, body, status))
            answer = {"x-amz-request-id": "4442587FB7D0A2F9", "x-amz-id-2": "bm90aGluZw=="}
            text = b""
            if status == 200:
                crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
                answer |= {
                    "ETag": f'"{hashlib.md5(body).hexdigest()}"',
                    "x-amz-checksum-crc32": crc,
                }
            else:
                answer |= {"x-amz-bucket-region": lives, "Content-Type": "application/xml"}
                text = (
                    "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to"
                    " access must be addressed using the specified endpoint.</Message>"
                    f"<Endpoint>{bucket}.s3.{lives}.amazonaws.com</Endpoint>"
                    f"<Bucket>{bucket}</Bucket><RequestId>4442587FB7D0A2F9</RequestId></Error>"
                ).encode()
            self.send_response(status)
            for name, value in {**answer, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler) as address:
        made = AwsS3(address)
        yield made


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests on a free port of 127.0.0.1, each in a thread; gives the address."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, name="serving", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
