"""What each panel looks like at 1280x800: nothing cut off, nothing too faint to read."""

import pytest

from tests.browser.conftest import NOTEBOOKS
from tests.browser.panel import Panel

PANELS = {
    "01_metadata_inspection": "MemoryCalculator",
    "03_tokenizer_tracing": "TokenStepper",
    "04_kv_cache": "KVCachePanel",
    "05_sampling_controls": "SamplingPanel",
}
LEAST_CONTRAST = 4.5  # level AA of WCAG 2 for text of ordinary size


@pytest.mark.parametrize("theme", ["Dark", "Light"])
@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name in PANELS])
def test_nothing_is_cut_off_and_all_can_be_read(notebooks, name, theme):
    notebook = notebooks[name]
    notebook.use_theme(theme)
    panel = Panel(notebook.panel(PANELS[name]))
    assert panel.layout_faults(LEAST_CONTRAST) == []
