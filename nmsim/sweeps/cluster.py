"""A dask cluster as an executor of concurrent.futures."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib import import_module
from urllib.parse import urlsplit

from nmsim.errors import UnsupportedError

TIMEOUT_SECONDS = 10
RETRIES = 3
"""How often a chunk is run again whose worker was lost."""


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The workers of the scheduler at `address`; raises UnsupportedError where dask or the scheduler is not there."""
    host, port = _place(address)
    try:
        client_of = import_module("distributed").Client
    except ImportError:
        raise UnsupportedError("a dask cluster needs distributed (pip install 'nmsim[dask]')") from None
    _require_answer(host, port, address)
    try:
        client = client_of(address, timeout=TIMEOUT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UnsupportedError(f"no dask scheduler answers at {address}: {error}") from None
    try:
        with client.get_executor(retries=RETRIES, pure=False) as pool:
            yield pool
    finally:
        client.close()


def _place(address: str) -> tuple[str, int]:
    """Host and port of an address such as tcp://host:8786 or host:8786; raises UnsupportedError for another text."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise UnsupportedError(f"{address!r} is no address of a dask scheduler; one looks like tcp://host:8786")
    return host, port


def _require_answer(host: str, port: int, address: str) -> None:
    """Raise UnsupportedError where nobody listens, at once, or where who listens does not begin to talk.

    A client would try again and again in the first case, and wait without end in the second. A scheduler sends its
    half of a handshake without being asked; under TLS it waits for the client's.
    """
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as connection:
            if not address.startswith("tls://") and not connection.recv(1):
                raise ConnectionError("the connection is closed from there")
    except TimeoutError:
        raise UnsupportedError(f"no dask scheduler answers at {address} within {TIMEOUT_SECONDS} s") from None
    except OSError as error:
        raise UnsupportedError(f"no dask scheduler answers at {address}: {error.strerror or error}") from None
