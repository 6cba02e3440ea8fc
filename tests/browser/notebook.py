"""A notebook in a browser window, with the things that a person does in it and sees there.

What is waited for is a condition in the page, never a time. All that the page complains about, on
its console or by a failed request, is kept in `complaints`.
"""

import json

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Response

from tests.browser.lab import TOKEN
from tests.conftest import ROOT

WINDOW = {"width": 1280, "height": 800}
SECONDS_TO_OPEN, SECONDS_TO_RUN, SECONDS_TO_ANSWER = 60, 240, 30
IDLE = '#jp-main-statusbar :text-is("Python 3 (ipykernel) | Idle")'
ERROR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'  # tracebacks too
PROMPTS = """() => [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(
    prompt => prompt.textContent)"""
ENDED = f"""n_cells =>
    [...document.querySelectorAll(`{ERROR}`)].some(e => e.textContent.includes("Traceback")) ||
    ({PROMPTS})().filter(text => /^\\[\\d+\\]:$/.test(text)).length === n_cells"""


class Notebook:
    """One notebook of a JupyterLab at `address`, in a window of `browser`."""

    def __init__(self, browser: Browser, address: str, name: str) -> None:
        cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
        self.n_cells = sum(cell["cell_type"] == "code" for cell in cells)
        self.page: Page = browser.new_page(viewport=WINDOW)
        self.page.set_default_timeout(1000 * SECONDS_TO_ANSWER)
        self.complaints: list[str] = []
        self._listen()
        # each window is a workspace of its own, or the second would show the first one's tabs
        workspace = name.split("_")[0]
        self.page.goto(f"{address}/lab/workspaces/{workspace}/tree/{name}.ipynb?token={TOKEN}")

    def start(self) -> None:
        """Clear what is stored in the file, and have every cell run."""
        self.page.locator(IDLE).wait_for(timeout=1000 * SECONDS_TO_OPEN)
        self.choose("Edit", "Clear Outputs of All Cells")
        self.choose("Run", "Run All Cells")

    def wait_until_run(self) -> None:
        """Wait until every cell of code has a number, or one has failed, and the kernel is idle."""
        self.page.wait_for_function(
            ENDED, arg=self.n_cells, timeout=1000 * SECONDS_TO_RUN, polling=100
        )
        self.page.locator(IDLE).wait_for()

    def choose(self, *names: str) -> None:
        """Choose from the menus, as in choose("Run", "Run All Cells")."""
        self.page.locator(".lm-MenuBar-item", has_text=names[0]).click()
        for name in names[1:]:
            item = self.page.locator(".lm-Menu-itemLabel").get_by_text(name, exact=True)
            item.click()

    def use_theme(self, name: str) -> None:
        """Choose JupyterLab's theme "Light" or "Dark", and wait until the page wears it."""
        self.choose("Settings", "Theme", f"JupyterLab {name}")
        light = str(name == "Light").lower()
        self.page.locator(f'body[data-jp-theme-light="{light}"]').wait_for(state="attached")

    def prompts(self) -> list[str]:
        """What stands before each cell of code, such as "[3]:"."""
        return self.page.evaluate(PROMPTS)

    def errors(self) -> list[str]:
        """Outputs that are exceptions or warnings, as text."""
        return self.page.locator(ERROR).all_text_contents()

    def questions(self) -> list[str]:
        """What JupyterLab itself has put over the notebook, to be answered or to fade."""
        return self.page.locator(".Toastify__toast, .jp-Dialog").all_inner_texts()

    def panel(self, name: str) -> Locator:
        """The output of the cell that makes the panel `name`, scrolled to."""
        cell = self.page.locator(".jp-CodeCell", has_text=f"panels.{name}(")
        output = cell.locator(".jp-OutputArea-output", has=self.page.locator(".jupyter-widgets"))
        output.first.scroll_into_view_if_needed()
        return output.first

    def _listen(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        self.page.on("requestfailed", lambda r: self.complaints.append(f"failed: {r.url}"))
        self.page.on("response", self._look_at)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def _look_at(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")
