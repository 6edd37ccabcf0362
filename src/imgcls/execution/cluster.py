"""A cluster of Ray: which one, what a task needs of it, and the way in and out."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any, final

import attrs

from imgcls.core.config import build
from imgcls.core.errors import ConfigError, missing_extra, nearest
from imgcls.core.options import count, number, optional, rejected

__all__ = ["Cluster", "cluster_of", "connected", "is_executor", "refuse_absent"]

#: What `executor` may be.
_NAMES = ("local", "processes", "ray")

#: The objects of a Ray of our own take so many bytes at most: what tasks share, once.
_STORE = 1 << 30


def _is_address(_: Any, field: attrs.Attribute[Any], address: Any) -> None:
    if address is None:
        return
    if not isinstance(address, str) or not address:
        raise rejected(field.name, "be 'local', 'auto' or 'host:port' of the cluster's head", address)
    if address.startswith("ray://"):
        remedy = "start this program on a machine of the cluster, such as with 'ray job submit'"
        raise rejected(field.name, "be that of a cluster which this machine belongs to", address, remedy)


@final
@attrs.frozen(kw_only=True)
class Cluster:
    """The options of the executor `ray`.

    Attributes:
        address: Of the cluster's head, or `"auto"` for the one that this machine belongs to; `"local"` starts a Ray
            on this machine and ends it afterwards. None takes `RAY_ADDRESS`, or `"local"` where it is not set.
        cpus: Processors, and so threads, of each task; None takes the threads of this process, shared out.
        gpus: GPUs of each task, also a part of one; None takes one where this process sees any.
    """

    address: str | None = attrs.field(default=None, validator=_is_address)
    cpus: int | None = attrs.field(default=None, validator=optional(count(1)))
    gpus: float | None = attrs.field(default=None, validator=optional(number(0)))


def cluster_of(executor: str | Mapping[str, Any]) -> Cluster | None:
    """Read the options of a cluster.

    Args:
        executor: What a Trainer or a Searcher has under this name.

    Returns:
        The options; None for an executor of this machine.

    Raises:
        ConfigError: if an option is wrong.
    """
    if isinstance(executor, Mapping):
        options = {key: value for key, value in executor.items() if key != "name"}
        return build(Cluster, options, path="executor")
    return Cluster() if executor == "ray" else None


def is_executor(_: Any, field: attrs.Attribute[Any], given: Any) -> None:
    """Accept the name of an executor, or the options of the cluster."""
    name = given.get("name") if isinstance(given, Mapping) else given
    if name not in _NAMES:
        raise rejected(field.name, "be one of " + ", ".join(map(repr, _NAMES)), name, nearest(str(name), _NAMES))
    if isinstance(given, Mapping):
        if name != "ray":
            raise rejected(field.name, f"be {name!r} alone, which has no options", dict(given))
        cluster_of(given)


def refuse_absent() -> None:
    """Refuse to go on without Ray.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        found = importlib.util.find_spec("ray")
    except ValueError:  # a module without a spec, as of a test
        found = None
    if found is None:
        raise missing_extra("ray", "ray")


@contextlib.contextmanager
def connected(cluster: Cluster, *, cpus: int) -> Iterator[Any]:
    """Connect to a cluster.

    Args:
        cluster: Which one.
        cpus: Processors of one that is started here.

    Yields:
        The module `ray`, connected. Where this process was connected before it stays so; a Ray that was started here
        is ended.
    """
    refuse_absent()
    with _variables(RAY_USAGE_STATS_ENABLED="0"):
        import ray
    if ray.is_initialized():
        yield ray
        return
    try:
        _connect(ray, cluster.address or os.environ.get("RAY_ADDRESS") or "local", cpus)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, cpus: int) -> None:
    own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE} if address == "local" else {}
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
    with _variables(RAY_USAGE_STATS_ENABLED="0"), _own_signals():
        try:
            ray.init(address=address, **own, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            remedy = "start one with 'ray start', or leave it out"
            message = f"'executor.address' must be that of a running cluster, got {address!r}; {remedy}; {error}"
            raise ConfigError(message) from None


# Ray puts its own handler in the place of the one that saves a checkpoint.
@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _variables(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
