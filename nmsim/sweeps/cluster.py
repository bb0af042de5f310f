"""A dask cluster as an executor of concurrent.futures."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib import import_module

from nmsim.errors import UnsupportedError

TIMEOUT_SECONDS = 10
RETRIES = 3
"""How often a chunk is run again whose worker was lost."""


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The workers of the scheduler at `address`; raises UnsupportedError where dask or the scheduler is not there."""
    try:
        client_of = import_module("distributed").Client
    except ImportError:
        raise UnsupportedError("a dask cluster needs distributed (pip install 'nmsim[dask]')") from None
    try:
        client = client_of(address, timeout=TIMEOUT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UnsupportedError(f"no dask scheduler answers at {address}: {error}") from None
    try:
        with client.get_executor(retries=RETRIES, pure=False) as pool:
            yield pool
    finally:
        client.close()
