import dataclasses
import json
import math

import numpy as np
import pytest

import workbench as wb
from tests.conftest import REFERENCE, needs_reference
from workbench.errors import ParameterError, UnsupportedError
from workbench.sampling import PARAMETERS, SamplerChain, SamplingParams

OURS = {"entropy_threshold", "varentropy_threshold", "entropy_strength"}


@needs_reference
def test_defaults_are_llama_cpps_but_for_the_seed():
    declared = json.loads((REFERENCE / "samplers" / "defaults.json").read_text())
    names = {"temperature": "temp"}
    for name in set(PARAMETERS) - OURS - {"seed"}:
        theirs = declared["parameters"][names.get(name, name)]["default"]
        assert PARAMETERS[name].default == float(theirs), name
    params = SamplingParams()
    assert params.seed == 0
    assert params.dry_sequence_breakers == tuple(declared["dry_sequence_breakers"])
    order = [name.replace("typical_p", "typ_p") for name in declared["chain_order"]]
    assert params.samplers == tuple(order)


def test_every_number_has_bounds_around_its_default_and_a_meaning():
    for f in dataclasses.fields(SamplingParams):
        if f.name in ("dry_sequence_breakers", "logit_bias", "samplers"):
            assert f.name not in PARAMETERS
            continue
        parameter = PARAMETERS[f.name]
        assert parameter.name == f.name and parameter.default == f.default
        assert parameter.low <= parameter.default <= parameter.high
        assert parameter.is_whole == (f.type in (int, "int"))
        assert parameter.meaning.endswith(".")
        if parameter.off is not None:
            SamplingParams(**{f.name: parameter.off})


def test_all_numbers_at_their_off_value_leave_the_logits_alone():
    off = {name: p.off for name, p in PARAMETERS.items() if p.off is not None}
    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    chain = SamplerChain(SamplingParams(**off))
    assert all(stage.off for stage in chain.stages)
    np.testing.assert_array_equal(chain.apply(logits, [1, 1, 1]).logits, logits)
    assert repr(chain) == "SamplerChain(dist(seed=0))"


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("value", [-101, float("nan"), float("inf"), "1", None, True, 2**40 + 0.5j])
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=f"^{name}: out of range; expected .*, got "):
        SamplingParams(**{name: value})


@pytest.mark.parametrize("name", [n for n in PARAMETERS if PARAMETERS[n].high < math.inf])
def test_a_value_above_its_bound_is_refused(name):
    with pytest.raises(ParameterError, match=f"^{name}: out of range"):
        SamplingParams(**{name: PARAMETERS[name].high + 1})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", -1, "expected a finite number from 0 up, got -1; 0 is greedy"),
        ("top_p", 2, "expected a number from 0 to 1, got 2; 1 turns it off"),
        ("top_p", -0.1, "expected a number from 0 to 1, got -0.1"),
        ("min_p", 1.01, "got 1.01; 0 turns it off"),
        ("top_k", -1, "got -1; 0 keeps the whole vocabulary"),
        ("top_k", 1.5, "expected a whole number from 0 to 2147483647, got 1.5"),
        ("seed", 2**32, "expected a whole number from 0 to 4294967295"),
        ("mirostat", 3, "expected a whole number from 0 to 2, got 3; 0 turns it off"),
        ("penalty_repeat", 0, "expected a finite number from 0.01 up, got 0; 1 turns it off"),
        ("mirostat_tau", -1, "expected a finite number from 0 up, got -1; 5 is the default"),
        ("samplers", "top_k", "samplers: expected a list of texts, got 'top_k'"),
        ("samplers", ["top_k", "tfs_z"], "no such sampler; expected some of penalties, .*'tfs_z'"),
        ("samplers", ["temp", "temperature"], "every sampler once, got 'temperature' twice"),
        ("logit_bias", [1, 2], "logit_bias: expected a mapping of token id to number, got list"),
        ("logit_bias", {-1: 1.0}, "logit_bias: expected token ids from 0 up, got -1"),
        ("logit_bias", {"a": 1.0}, "logit_bias: expected token ids from 0 up, got 'a'"),
        ("logit_bias", {3: float("nan")}, "token 3: expected a finite number, or -inf to ban it"),
        ("dry_sequence_breakers", "\n", "dry_sequence_breakers: expected a list of texts"),
    ],
)
def test_the_message_says_what_to_do(name, value, message):
    with pytest.raises(ParameterError, match=message):
        SamplingParams(**{name: value})


def test_infill_is_refused_by_name_with_what_to_use():
    with pytest.raises(UnsupportedError, match="'infill'; top_k and top_p stand in for it"):
        SamplingParams(samplers=["top_k", "infill"])


def test_edges_of_the_ranges_are_allowed():
    SamplingParams(temperature=0, top_k=0, top_p=0, min_p=0, min_keep=0, seed=0)
    SamplingParams(temperature=100, top_k=2**31 - 1, top_p=1, min_p=1, seed=2**32 - 1)


def test_other_names_of_samplers_are_understood():
    params = SamplingParams(samplers=["top-k", "nucleus", "typical_p", "temp"])
    assert params.samplers == ("top_k", "top_p", "typ_p", "temperature")


def test_settings_can_be_compared_changed_and_hashed():
    params = SamplingParams(logit_bias={3: 1.0}, samplers=["top_k"])
    again = dataclasses.replace(params, top_k=5)
    assert again != params and dataclasses.replace(again, top_k=40) == params
    assert len({params, dataclasses.replace(params)}) == 1
    assert SamplingParams(**dataclasses.asdict(params)) == params


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({}, "top_k top_p min_p temp dist"),
        ({"samplers": ["temperature", "top_k"]}, "temp top_k dist"),
        ({"samplers": []}, "dist"),
        ({"logit_bias": {1: 1.0}, "samplers": ["top_k"]}, "logit_bias top_k dist"),
        ({"mirostat": 1, "penalty_repeat": 2.0}, "temp mirostat"),
        ({"mirostat": 2, "logit_bias": {1: 1.0}}, "logit_bias temp mirostat_v2"),
        ({"samplers": ["adaptive_p", "top_k"], "adaptive_target": 0.5}, "top_k adaptive_p"),
        ({"samplers": ["top_k"], "adaptive_target": 0.5}, "top_k adaptive_p"),
        ({"dynatemp_range": 0.5}, "top_k top_p min_p temp_ext dist"),
        ({"entropy_threshold": 2.0}, "top_k top_p min_p entropy_guided temp dist"),
        ({"entropy_threshold": 2.0, "samplers": ["entropy_guided", "min_p"]},
         "entropy_guided min_p dist"),
    ],
)  # fmt: skip
def test_settings_give_the_stages_in_llama_cpps_order(changes, stages):
    chain = SamplerChain(SamplingParams(**changes))
    assert " ".join(s.name for s in (*chain.stages, chain.last) if not s.off) == stages


def test_dry_needs_a_tokenizer_only_where_it_is_on():
    with pytest.raises(ParameterError, match=r"dry: breakers are texts, .*expected tokenizer="):
        SamplerChain(SamplingParams(dry_multiplier=0.8))
    SamplerChain(SamplingParams(dry_multiplier=0.8, dry_sequence_breakers=()))
    SamplerChain(SamplingParams(dry_multiplier=0.8, samplers=["top_k"]))


FILE = {
    "general.sampling.sequence": "top_k;top_p;temp",
    "general.sampling.top_k": 20,
    "general.sampling.top_p": np.float32(0.9).item(),
    "general.sampling.min_p": 0,
    "general.sampling.xtc_probability": 0.25,
    "general.sampling.xtc_threshold": 0.125,
    "general.sampling.temp": np.float32(0.7).item(),
    "general.sampling.penalty_last_n": 32,
    "general.sampling.penalty_repeat": 1.125,
    "general.sampling.mirostat": 2,
    "general.sampling.mirostat_tau": 4.5,
    "general.sampling.mirostat_eta": 0.5,
}


def test_what_a_file_recommends_is_the_default():
    assert SamplingParams.from_gguf(FILE) == SamplingParams(
        samplers=("top_k", "top_p", "temperature"), top_k=20, top_p=0.9, min_p=0,
        xtc_probability=0.25, xtc_threshold=0.125, temperature=0.7, penalty_last_n=32,
        penalty_repeat=1.125, mirostat=2, mirostat_tau=4.5, mirostat_eta=0.5,
    )  # fmt: skip


def test_a_file_is_read_and_changes_go_before_it(tmp_path):
    path = tmp_path / "recommends.gguf"
    wb.write_gguf(path, {"general.architecture": "llama", **FILE}, {})
    with wb.open_gguf(path) as gguf:
        params = SamplingParams.from_gguf(gguf, temperature=1.5, seed=3)
    assert (params.temperature, params.top_k, params.seed) == (1.5, 20, 3)
    assert SamplingParams.from_gguf({}, top_k=7) == SamplingParams(top_k=7)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("temp", "hot", "expected a finite number from 0 up, got 'hot'; the file recommends it; "
         "temperature=... sets another value"),
        ("temp", -1.0, "general.sampling.temp: out of range; expected a finite number from 0 up"),
        ("top_k", 1.5, "general.sampling.top_k: out of range; expected a whole number"),
        ("top_k", -5, "general.sampling.top_k: out of range; .*got -5"),
        ("top_p", True, "general.sampling.top_p: out of range; .*got True"),
        ("top_p", float("nan"), "general.sampling.top_p: out of range"),
        ("mirostat", 7, "general.sampling.mirostat: out of range; .*from 0 to 2, got 7"),
        ("sequence", ["top_k"], r"general.sampling.sequence: expected names with ';' between"),
        ("sequence", "top_k;magic", "general.sampling.sequence: no such sampler; .*got 'magic'"),
    ],
)  # fmt: skip
def test_a_recommendation_of_nonsense_is_one_sentence(key, value, message):
    metadata = {f"general.sampling.{key}": value}
    with pytest.raises(ParameterError, match=message):
        SamplingParams.from_gguf(metadata)
    name = {"temp": "temperature", "sequence": "samplers"}.get(key, key)
    mine = getattr(SamplingParams(), name)
    assert SamplingParams.from_gguf(metadata, **{name: mine}) == SamplingParams()


def test_something_else_than_a_file_is_refused():
    with pytest.raises(ParameterError, match="from_gguf: expected an open GGUF file or its metad"):
        SamplingParams.from_gguf("model.gguf")
