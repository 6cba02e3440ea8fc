"""Pictures of speed, read back from their artists."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import workbench as wb

plots = wb.plots
TIMES = pd.DataFrame({"8b-Q4_0": {"attention": 100.0, "head": 200.0}, "8b-F16": {"head": 300.0}})
POINTS = pd.DataFrame(
    [("workbench", "8b-Q4_0", "tg128", 3.5, 10.0), ("llama.cpp", "8b-Q4_0", "pp512", 1800, 150.0)],
    columns=["who", "model", "test", "flop_per_byte", "tflops"],
)


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


@pytest.fixture(scope="module")
def record():
    return wb.analysis.read_speed_record()


def legend_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_bars_of_a_budget_are_megabytes(ax):
    with wb.load_model(wb.model_path()) as model:
        budget = wb.analysis.token_budget(model.config, model.gguf.tensors, 100)
    sums = wb.analysis.budget_by_family(budget)
    plots.plot_token_budget(sums, ax)
    np.testing.assert_allclose([p.get_width() for p in ax.patches], sums.nbytes / 1e6)
    assert "MB" in ax.get_xlabel() and ax.yaxis_inverted()


def test_bars_of_a_record_are_tokens_per_second(ax, record):
    plots.plot_speed_record(record, "pp512", ax)
    peers = [p.get_height() for p in ax.patches][-len(record.models) :]
    np.testing.assert_allclose(peers, [speeds["pp512"] for speeds in record.peer.values()])
    assert legend_of(ax)[-1] == "llama.cpp"
    assert ax.get_ylabel() == "tokens per second"


def test_the_roof_is_bandwidth_then_arithmetic(ax, record):
    plots.plot_roofline(POINTS, record, ax)
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y[0], x[0] * record.ceilings["copy_gb_per_s"] / 1e3)
    np.testing.assert_allclose(y[-1], record.ceilings["f16_matmul_tflops"])
    assert legend_of(ax) == ["roof", "workbench, single tokens", "llama.cpp, prompts"]


def test_gaps_stand_behind_the_floor(ax, record):
    ways = record.ways(547, 32, 1000.0)
    plots.plot_launch_gaps(ways, ax)
    floors, gaps = ax.patches[:3], ax.patches[3:]
    np.testing.assert_allclose([p.get_width() for p in floors], 1000)
    np.testing.assert_allclose([p.get_width() for p in gaps], ways.gap_us)
    np.testing.assert_allclose([p.get_x() for p in gaps], 1000)


def test_families_are_stacked(ax):
    plots.plot_family_times(TIMES, {"8b-Q4_0": 250.0}, ax)
    np.testing.assert_allclose([p.get_x() for p in ax.patches], [0, 0, 100, 0])
    assert set(legend_of(ax)) == {"attention", "head", "floor"}
    (floor,) = ax.collections
    np.testing.assert_allclose(floor.get_segments()[0][:, 0], 250)


def test_memory_grows_with_the_context(ax):
    with wb.load_model(wb.model_path()) as model:
        plan = wb.analysis.memory_plan(model.config, model.gguf.tensors)
    plots.plot_memory_plan(plan, ax)
    n_ctx, total = ax.lines[0].get_data()
    np.testing.assert_allclose(total[-1], plan.total("f16", int(n_ctx[-1])) / 1e9)
    assert "weights and f16 cache" in legend_of(ax) and "GB" in ax.get_ylabel()
