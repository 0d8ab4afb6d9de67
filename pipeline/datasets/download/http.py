"""HTTP requests that survive a bad connection.

Built on urllib, with http and https alone: an address from a record, or one that it redirects to,
must not become a read of a local file.
"""

import http.client
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pipeline.config.data import DataConfig

logger = logging.getLogger(__name__)
Response = http.client.HTTPResponse
_T = TypeVar("_T")
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT_S = 60.0


class Dropped(Exception):
    """A connection that ended early or never came up; another attempt may do better."""

    def __init__(self, finding: str, *, wait_s: float = 0.0) -> None:
        super().__init__(finding)
        self.wait_s = wait_s


def is_web_address(url: str) -> bool:
    """Whether it is an http(s) address without blanks or control characters."""
    return re.fullmatch(r"https?://[!-~]+", url) is not None


class Web:
    """Opens addresses with the patience that the config gives; state is urllib's opener."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def read(self, url: str, *, max_bytes: int) -> bytes:
        """A whole document; ValueError when it cannot be had or is longer."""

        def attempt() -> bytes:
            with self.open(url) as response, dropping():
                data = response.read(max_bytes + 1)
                if response.length and len(data) <= max_bytes:
                    raise Dropped(f"the connection ended {response.length} bytes early")
                return data

        data = self.patiently(url, attempt, gain=lambda: 0)
        if len(data) > max_bytes:
            raise ValueError(f"{url} is longer than {max_bytes} bytes; correct data.zenodo_url")
        return data

    @contextmanager
    def open(self, url: str, *, first_byte: int = 0) -> Iterator[Response]:
        """A response with status 200 or 206, from `first_byte` on where the server can.

        Raises Dropped where another attempt makes sense, ValueError where it does not.
        """
        headers = {"User-Agent": "anovox-pipeline", "Accept-Encoding": "identity"}
        if first_byte:
            headers["Range"] = f"bytes={first_byte}-"
        request = urllib.request.Request(url, headers=headers)
        try:
            with dropping():
                response = self._opener.open(request, timeout=self._config.stall_s)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(url, error) from None
        with response:
            yield response

    def patiently(self, url: str, attempt: Callable[[], _T], *, gain: Callable[[], int]) -> _T:
        """What `attempt` returns; repeated when it is Dropped, later and later.

        `gain` is the progress so far: an attempt that raised it beyond all before was not in vain,
        and the count of vain ones starts again. Raises ValueError when more than `data.max_retries`
        in a row were.
        """
        vain, best = 0, gain()
        while True:
            try:
                return attempt()
            except Dropped as dropped:
                vain, best = (0, gain()) if gain() > best else (vain + 1, best)
                if vain > self._config.max_retries:
                    raise ValueError(
                        f"{url}: {dropped} ({vain} attempts in a row brought nothing); start the "
                        "job again later, it goes on from what it has"
                    ) from None
                doubled = self._config.retry_wait_s * 2 ** min(vain, 10)
                wait_s = min(max(doubled, dropped.wait_s), _LONGEST_WAIT_S)
                logger.warning("%s: %s; next attempt in %.1f s", url, dropped, wait_s)
                time.sleep(wait_s)


@contextmanager
def dropping() -> Iterator[None]:
    """Network errors inside become Dropped; ValueError where another attempt is of no use."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        text = str(reason) or type(reason).__name__
        # urllib gives its own words, and no exception, for an address that it cannot open.
        if isinstance(reason, ssl.SSLCertVerificationError | str):
            raise ValueError(f"{text}; check data.zenodo_url and this machine's clock") from None
        raise Dropped(" ".join(text.split())) from None


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    finding = " ".join(f"the server answers {error.code} {error.reason}".split())
    if error.code in _TRY_AGAIN:
        wait = error.headers.get("Retry-After", "")
        return Dropped(finding, wait_s=float(wait) if wait.isdecimal() else 0.0)
    if error.code in (401, 403):
        return ValueError(f"{url}: {finding}; download restricted files with a browser")
    return ValueError(f"{url}: {finding}; correct data.zenodo_record or data.zenodo_url")
