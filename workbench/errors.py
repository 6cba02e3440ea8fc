"""Every error the workbench raises on purpose.

    WorkbenchError
    ├── GGUFError          ValueError         the bytes are not the GGUF file they claim to be
    │   └── GGUFNotFoundError  FileNotFoundError  there is no file at that path
    ├── UnsupportedError   ValueError         sound input that this version cannot handle
    ├── ParameterError     ValueError         an argument out of range or of a wrong type
    ├── ContextFullError   ValueError         the tokens do not fit into the context
    └── DeviceMemoryError  MemoryError        the model does not fit into the GPU's memory

A message is one sentence: `place: what is wrong; expected X, got Y; what to do`.
Our own broken invariants are `assert`s, not these.
"""

__all__ = [
    "ContextFullError",
    "DeviceMemoryError",
    "GGUFError",
    "GGUFNotFoundError",
    "NO_DECODE_GRAPH",
    "ParameterError",
    "UnsupportedError",
    "WorkbenchError",
]


class WorkbenchError(Exception):
    """Base of all errors below; the CLI prints it as one sentence and exits with 2."""


class GGUFError(WorkbenchError, ValueError):
    """The file is damaged, truncated, hostile, or no GGUF file."""


class GGUFNotFoundError(GGUFError, FileNotFoundError):
    """There is no file at the path."""

    def __str__(self) -> str:
        return str(self.args[0])  # OSError would print an errno of its own


class UnsupportedError(WorkbenchError, ValueError):
    """The input is sound, but this version has no code for it."""


class ParameterError(WorkbenchError, ValueError):
    """An argument is out of range, or of the wrong shape or type."""


class ContextFullError(WorkbenchError, ValueError):
    """The tokens do not fit into the context window."""


class DeviceMemoryError(WorkbenchError, MemoryError):
    """The GPU has too little free memory for the model, its cache or its workspace."""


# What making a decode graph may say; the plain pass then takes the tokens, and tells why.
NO_DECODE_GRAPH = (UnsupportedError, DeviceMemoryError)
