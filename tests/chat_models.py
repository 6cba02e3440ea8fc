"""The built-in story model with a chat template in its file: it answers every turn with a story."""

from tests.conftest import BUILTIN_MODEL
from workbench import open_gguf, write_gguf

LINES = "{% for m in messages %}{{ m.content }}\n{% endfor %}"  # a line a message, nothing else


def write_chat_model(path, template=LINES):
    """A copy of the built-in model that has this template."""
    with open_gguf(BUILTIN_MODEL) as gguf:
        tensors = {
            name: (gguf.raw(name), info.type, info.shape) for name, info in gguf.tensors.items()
        }
        metadata = {**gguf.metadata, "tokenizer.chat_template": template}
        write_gguf(path, metadata, tensors, types=gguf.metadata.types, durable=False)
    return path
