"""Start a server."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from imgcls.core.errors import missing_extra
from imgcls.core.options import rejected
from imgcls.core.progress import say, warn
from imgcls.inference.caution import Promises
from imgcls.serving.limits import Limits
from imgcls.serving.served import open_served

__all__ = ["LOCAL", "serve"]

#: Names of this machine for itself.
LOCAL = ("127.0.0.1", "localhost", "::1")

#: Requests at a time, beyond which the server answers 503.
_AT_A_TIME = 128


def serve(
    path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    explainer: str = "grad-cam",
    promises: Promises | None = None,
) -> None:
    """Serve a run or an export until it is interrupted.

    Args:
        path: Its folder.
        host: The address it listens at. Others than this machine's own are open to the network, without a password.
        port: The port.
        limits: How much it takes at a time.
        explainer: What draws the maps of a run.
        promises: Prediction sets and abstention of a run; an export has its own.

    Raises:
        MissingExtraError: if the packages of the extra `serve` are not installed.
        ConfigError: if the port is none or not to be had, or there are promises for an export.
    """
    try:
        import uvicorn

        from imgcls.serving.app import create_app
    except ImportError as error:
        raise missing_extra(str(error.name), "serve") from None
    if not 0 < port < 2**16:
        raise rejected("port", "be from 1 to 65535", port)
    _check_free(host, port)
    local = host in LOCAL
    if not local:
        warn(f"{host} is open to the network: everybody who reaches it may send images and read what the model says")
    served = open_served(path, explainer=explainer, promises=promises or Promises())
    _share_threads(served.at_a_time)
    app = create_app(served, limits, hosts=(*LOCAL, "[::1]") if local else ("*",))
    say(f"Serving {path} at http://{f'[{host}]' if ':' in host else host}:{port}/ (stop with Ctrl+C)")
    uvicorn.run(app, host=host, port=port, log_level="warning", limit_concurrency=_AT_A_TIME, timeout_keep_alive=15)


# Those of torch, where the model needs it; onnxruntime was told when it was opened.
def _share_threads(batches: int) -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(max(1, torch.get_num_threads() // batches))


# Opening a model takes seconds, after which the server would only log that it cannot listen.
def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        remedy = f"{error.strerror}; name another port or host"
        raise rejected("port", f"be free at {host!r}", port, remedy) from None
