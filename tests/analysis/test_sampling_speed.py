import pytest

from workbench.analysis import sampling_speed
from workbench.errors import ParameterError
from workbench.sampling import SamplingParams


def test_every_stage_of_the_chain_has_a_row_and_the_whole_is_the_last():
    speed = sampling_speed(500, repeats=1)
    assert list(speed.columns) == ["stage", "defaults ms", "penalties and dry ms"]
    assert speed["stage"].iloc[[0, 1, -1]].tolist() == [
        "check the logits", "penalties", "one token in all",
    ]  # fmt: skip
    assert (speed.drop(columns="stage") > 0).all(axis=None)


def test_a_stage_that_a_chain_lacks_stays_empty():
    settings = {"plain": SamplingParams(), "bias": SamplingParams(logit_bias={1: 1.0})}
    speed = sampling_speed(50, 1, settings).set_index("stage")
    assert speed.isna().loc["logit_bias"].tolist() == [True, False]


@pytest.mark.parametrize("arguments", [(0, 1), (5, 0), (5.5, 1)])
def test_nothing_to_time_is_refused(arguments):
    with pytest.raises(ParameterError, match="expected a whole number from 1 up, got"):
        sampling_speed(*arguments)
