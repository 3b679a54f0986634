"""`prefdata label`: the labelling app on this machine, on this store."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen

HOST, FIRST_PORT, PORTS = "127.0.0.1", 8501, 50


def label(
    store: StoreFile = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on.", show_default=f"the first free one from {FIRST_PORT}")] = None,
    json: AsJson = False,
) -> None:
    """Start the app in which people judge pairs.

    It serves this machine only (127.0.0.1), until Ctrl-C.

    Example:  prefdata label --store prefdata.duckdb
    """
    from prefdata.core.errors import NeedsExtra
    from prefdata.core.places import bundled

    screen = Screen(json)
    if importlib.util.find_spec("streamlit") is None:
        raise NeedsExtra("the labelling app", "app")
    opened = open_store(store, must_exist=True)
    main = bundled("app") / "main.py"
    port = port or _free_port()
    child = subprocess.Popen(command(main, port), env={**os.environ, "PREFDATA_STORE": str(opened.path.resolve())})
    url = f"http://{HOST}:{port}"
    if json:
        screen.data({"url": url, "store": str(opened.path), "pid": child.pid})
        sys.stdout.flush()
    else:
        screen.line(f"labelling {opened.path}: open {url} in a browser; Ctrl-C ends it")
    code = _wait(child)
    if code:
        raise typer.Exit(1)
    screen.next("prefdata status")


def command(main: Path, port: int) -> list[str]:
    """The call of Streamlit: bound to this machine, no telemetry, no browser of its own."""
    settings = {"server.address": HOST, "server.port": port, "server.headless": "true", "browser.gatherUsageStats": "false"}
    return [sys.executable, "-m", "streamlit", "run", str(main), *(f"--{name}={value}" for name, value in settings.items())]


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Serve until the app ends; Ctrl-C (or SIGTERM) is the way to end it and no failure."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.siginterrupt(signal.SIGINT, True)  # Polars' handler has waiting for a child restarted instead of interrupted
    try:
        return child.wait()
    except KeyboardInterrupt:
        if not _ends(child):  # a terminal's Ctrl-C has reached the app already
            child.terminate()
        if not _ends(child):
            child.kill()
        return 0


def _ends(child: subprocess.Popen[bytes]) -> bool:
    with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
        child.wait(timeout=3)
    return child.poll() is not None


def _free_port() -> int:
    from prefdata.core.errors import PrefdataError

    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port
    raise PrefdataError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free; give one with --port.")
