"""`workbench lab` as a user starts it, on a free port and in folders of its own.

Nothing of the user's is read or written: the notebooks are copied, and JupyterLab's settings, its
workspaces and IPython's profile lie in the same temporary folder.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT

SECONDS_TO_START, SECONDS_TO_STOP = 60, 20
FOLDERS = {
    "HOME": "home",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "xdg_config",
    "XDG_DATA_HOME": "xdg_data",
}
TOKEN = "browser-tests"


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab on copies of the notebooks; it is stopped when the block ends."""
    with (folder / "log.txt").open("w") as log:
        command = [sys.executable, "-m", "workbench.cli", "lab", "--folder", folder / "notebooks"]
        options = ["--no-browser", "--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}"]
        server = subprocess.Popen(
            [*map(str, command), *options],
            cwd=folder,
            env=environment(folder),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield wait_until_up(server, folder)
    finally:
        server.terminate()  # JupyterLab ends its kernels first
        try:
            server.wait(SECONDS_TO_STOP)
        finally:
            server.kill()  # a kernel whose server is gone ends by itself


def environment(folder: Path) -> dict[str, str]:
    """This process's variables, with every folder of the user's replaced by one of ours."""
    kept = {name: value for name, value in os.environ.items() if name != "WORKBENCH_MODEL"}
    ours = {name: str(folder / place) for name, place in FOLDERS.items()}
    for place in ours.values():
        Path(place).mkdir()
    return {**kept, **ours, "PYTHONPATH": str(ROOT)}  # also where the package is not installed


def wait_until_up(server: subprocess.Popen, folder: Path) -> str:
    """The server's address, from the file that it writes once it listens."""
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        for path in (folder / FOLDERS["JUPYTER_RUNTIME_DIR"]).glob("jpserver-*.json"):
            text = path.read_text()
            if text.endswith("}"):  # else it is being written
                return json.loads(text)["url"].rstrip("/")
        time.sleep(0.05)
    raise RuntimeError(f"JupyterLab did not start:\n{(folder / 'log.txt').read_text()}")
