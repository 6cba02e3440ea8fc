"""`workbench lab`: JupyterLab on the notebooks.

Source: our own. Leaves out JupyterLab's own options, which are passed on.
"""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..resources import notebooks_path
from .app import app, err

__all__ = ["copy_missing_notebooks", "lab"]

FIRST_NOTEBOOK = "01_metadata_inspection.ipynb"
# labconfig/ in it: defaults of ours; JupyterLab's question about news would lie over the panels
SETTINGS = Path(__file__).with_name("jupyter")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Option(help="Where the notebooks are, or are copied to if missing.")
    ] = Path("notebooks"),
) -> None:
    """Open JupyterLab on the notebooks; further options go to JupyterLab (--port, --no-browser)."""
    copied = copy_missing_notebooks(folder)
    if copied:
        err.print(f"copied into {escape(str(folder))}: {', '.join(copied)}")
    options = [f"--ServerApp.root_dir={folder.resolve()}"]
    options += [f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        err.print("running as root: JupyterLab is started with --allow-root")
        options += ["--allow-root"]
    others = filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([str(SETTINGS), *others])
    from jupyterlab.labapp import LabApp  # a second to import: only when needed

    LabApp.launch_instance([*options, *context.args])  # in this process: one Ctrl-C ends it


def copy_missing_notebooks(folder: Path) -> list[str]:
    """Copy the package's notebooks that `folder` lacks; a file that is there is never touched."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = []
    for source in sorted(notebooks_path().glob("*.ipynb")):
        target = folder / source.name
        if not target.exists():
            shutil.copyfile(source, target)
            copied.append(source.name)
    return copied
