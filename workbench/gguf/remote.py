"""A remote file by ranges of bytes: its header is read in growing pieces, a tensor when asked for.

    fetched   ████████░░░░░░░░░░░░░████░░░░░░░░     what came is kept in a sparse temporary file
              header               a tensor         as large as the remote one, and mapped

"https://…" goes to any server that answers ranges, "hf://owner/repository/path/in/it.gguf" to the
Hugging Face hub, with the token that `huggingface_hub` finds ("…/repository@revision/…" for one).
Source: RFC 9110 (range requests). Left out: keeping what came beyond the life of the file here.
"""

import mmap
import tempfile
from typing import Any

import httpx

from ..errors import GGUFError, GGUFNotFoundError, ParameterError

__all__ = ["RemoteSource"]

FIRST = 1 << 18  # bytes of the first request, which most headers without a vocabulary fit into
TIMEOUT = 30.0  # seconds without a byte


class RemoteSource:
    """A remote file, of which no more is fetched than is asked for. n_fetched: bytes so far."""

    def __init__(self, url: str):
        """Raises: GGUFNotFoundError, GGUFError if the server sends no ranges, ParameterError."""
        self.path, self.n_fetched = url, 0
        self._url, headers = _resolved(url)
        self._client = httpx.Client(follow_redirects=True, timeout=TIMEOUT, headers=headers)
        self._version: tuple[str | None, int] | None = None  # entity tag and size
        self._ranges: list[tuple[int, int]] = []  # fetched, in order, apart
        start = self._send(0, FIRST)
        size = self._version[1]
        self._file = tempfile.TemporaryFile()
        try:
            self._file.truncate(max(size, 1))
            self._map = mmap.mmap(self._file.fileno(), max(size, 1))
        except (OSError, OverflowError, ValueError):
            self._fail(
                "no temporary file can be so large; expected a size that the file system of "
                f"{tempfile.gettempdir()} allows, got {size} bytes; check the address"
            )
        self.data = memoryview(self._map).toreadonly()[:size]
        self._keep(0, start)

    def reach(self, stop: int) -> int:
        """Have the bytes before `stop`, and twice as many as before, so that requests stay few."""
        have = self._ranges[0][1] if self._ranges else 0
        if stop > have and have < len(self.data):
            stop = min(len(self.data), max(stop, 2 * have))
            self._keep(have, self._send(have, stop))
            have = stop
        return have

    def fetch(self, start: int, stop: int) -> None:
        """Have these bytes. Raises: GGUFError."""
        for low, high in _missing(self._ranges, start, stop):
            self._keep(low, self._send(low, high))

    def close(self) -> None:
        """End the connection; what was fetched stays while anyone looks at it."""
        self._client.close()
        self._file.close()

    def _keep(self, start: int, content: bytes) -> None:
        self._map[start : start + len(content)] = content
        self._ranges = _joined([*self._ranges, (start, start + len(content))])

    def _send(self, start: int, stop: int) -> bytes:
        """Ask for bytes start … stop - 1; fewer come only where the file ends."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        try:
            with self._client.stream("GET", self._url, headers=headers) as answer:
                expected = self._checked(answer, start, stop)
                content = _content(answer, expected)
        except httpx.InvalidURL as error:
            raise ParameterError(
                f"path: not an address; expected https://…, got {self.path!r} ({error}); correct it"
            ) from None
        except httpx.HTTPError as error:
            self._fail(
                f"the connection failed at bytes {start} to {stop - 1}; expected an answer, got "
                f"{str(error) or type(error).__name__}; try again later"
            )
        self.n_fetched += len(content)
        if len(content) != expected:
            self._fail(
                f"the connection was cut; expected {expected} bytes from byte {start} on, got "
                f"{len(content)}; try again"
            )
        return content

    def _checked(self, answer: httpx.Response, start: int, stop: int) -> int:
        """How many bytes the answer must have."""
        if answer.status_code in (404, 410):
            raise GGUFNotFoundError(
                f"{self.path}: no such file; expected a .gguf file, got HTTP status "
                f"{answer.status_code}; check the address"
            )
        if answer.status_code == 416 and answer.headers.get("Content-Range") == "bytes */0":
            self._version = (answer.headers.get("ETag"), 0)
            return 0
        if answer.status_code == 200:
            self._fail(
                "the server sends only whole files; expected HTTP status 206 to a request for a "
                "range, got 200; download the file and open it from disk"
            )
        if answer.status_code != 206:
            self._fail(
                f"the server refuses; expected HTTP status 206, got {answer.status_code} "
                f"{answer.reason_phrase}; check the address, and whether it needs a login"
            )
        return self._checked_range(answer, start, stop)

    def _checked_range(self, answer: httpx.Response, start: int, stop: int) -> int:
        said = answer.headers.get("Content-Range", "")
        try:
            unit, _, rest = said.partition(" ")
            span, _, total = rest.partition("/")
            low, _, high = span.partition("-")
            size, low, high = int(total), int(low), int(high) + 1
        except ValueError:
            unit, size, low, high = "", 0, -1, -1
        if unit != "bytes" or low != start or high != min(stop, size):
            self._fail(
                f"the server sends other bytes; expected bytes {start}-{stop - 1} of the file, got "
                f"Content-Range {said!r}; download the file and open it from disk"
            )
        version = (answer.headers.get("ETag"), size)
        if self._version is not None and version != self._version:
            self._fail(
                f"the file has changed on the server; expected {self._version[1]} bytes and tag "
                f"{self._version[0]}, got {size} and {version[0]}; open it again"
            )
        self._version = version
        return high - low

    def _fail(self, problem: str) -> Any:
        raise GGUFError(f"{self.path}: {problem}") from None


def _content(answer: httpx.Response, expected: int) -> bytes:
    """The body, up to `expected` bytes; a connection that is cut gives fewer."""
    content = bytearray()
    try:
        for piece in answer.iter_raw():
            content += piece
            if len(content) >= expected:
                break
    except httpx.RemoteProtocolError:
        pass  # the caller says how many bytes are missing
    return bytes(content[:expected])


def _resolved(url: str) -> tuple[str, dict[str, str]]:
    """The address to ask, and what to send along."""
    if not url.startswith("hf://"):
        return url, {}
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import HFValidationError, build_hf_headers

    parts = url.removeprefix("hf://").split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise ParameterError(
            f"path: not a file on the hub; expected hf://owner/repository/file.gguf, got {url!r}"
        )
    repository, _, revision = parts[1].partition("@")
    try:
        address = hf_hub_url(f"{parts[0]}/{repository}", parts[2], revision=revision or None)
    except HFValidationError as error:
        raise ParameterError(
            "path: not a repository of the hub; expected hf://owner/repository/file.gguf, got "
            f"{url!r}; {error}"
        ) from None
    return address, build_hf_headers()


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, those that touch made one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined


def _missing(ranges: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """What of start … stop - 1 lies in no range."""
    missing = []
    for low, high in ranges:
        if low > start:
            missing.append((start, min(low, stop)))
        start = max(start, high)
        if start >= stop:
            break
    if start < stop:
        missing.append((start, stop))
    return [(low, high) for low, high in missing if low < high]
