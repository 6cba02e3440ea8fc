"""Which tests a process of pytest-xdist takes together."""

from xdist.scheduler import LoadScopeScheduling


class FileScheduling(LoadScopeScheduling):
    """A process takes whole files, and all that share the one JupyterLab and browser."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "tests/browser" if file.startswith("tests/browser/") else file
