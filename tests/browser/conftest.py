"""One JupyterLab and one browser for all tests here, the notebooks in it already run.

Without Chromium (or Chrome) the tests skip; where WORKBENCH_CHROMIUM names the browser, as in CI,
they never do. A failing test leaves a screenshot of every window and says where.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.lab import jupyterlab
from tests.browser.notebook import SECONDS_TO_ANSWER, Notebook
from tests.conftest import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEMANDED = os.environ.get("WORKBENCH_CHROMIUM")
CHROMIUM = DEMANDED or next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-first-run"]  # fmt: skip
WANTED = ("01_metadata_inspection", "03_tokenizer_tracing", "04_kv_cache", "05_sampling_controls")
NOTEBOOKS = [name for name in WANTED if (ROOT / "notebooks" / f"{name}.ipynb").exists()]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    # Chromium's sandbox refuses to run as root, as in most containers
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    expect.set_options(timeout=1000 * SECONDS_TO_ANSWER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS + as_root)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def notebooks(browser, tmp_path_factory) -> Iterator[dict[str, Notebook]]:
    """Notebook by name, each in a window of its own; all have run, side by side."""
    with jupyterlab(tmp_path_factory.mktemp("lab")) as address:
        opened = {name: Notebook(browser, address, name) for name in NOTEBOOKS}
        for notebook in opened.values():
            notebook.start()
        for notebook in opened.values():
            notebook.wait_until_run()
        yield opened
        for notebook in opened.values():
            notebook.page.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and "browser" in item.funcargs:
        folder = Path(item.config.rootpath, ".pytest_cache", "browser")
        folder.mkdir(parents=True, exist_ok=True)
        pages = [page for window in item.funcargs["browser"].contexts for page in window.pages]
        for number, page in enumerate(pages):
            path = folder / f"{item.name}-{number}.png"
            page.screenshot(path=path)
            report.sections.append(("screenshot", str(path)))
    return report
