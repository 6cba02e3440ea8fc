"""A tree of texts: branches reuse what is before them, and say how probable they were."""

import numpy as np
import pytest

import workbench as wb
from workbench.analysis import TokenTree, sampling_sweep
from workbench.analysis.sampling_sweep import distinct, repetition
from workbench.analysis.token_tree import entropy_of

PARAMS = wb.SamplingParams(seed=2)


@pytest.fixture(scope="module")
def model():
    with wb.load_model(wb.builtin_model_path(), device="cpu") as loaded:
        yield loaded


def test_the_first_text_is_what_generate_writes(model):
    tree = TokenTree(model, "Once upon a time", PARAMS)
    leaf = tree.generate(20)
    assert tree.text(leaf) == "".join(
        s.text for s in wb.generate(model, "Once upon a time", PARAMS, 20)
    )
    assert len(tree.nodes) == 21 and tree.leaves == [leaf]


def test_a_branch_reuses_all_before_it(model):
    tree = TokenTree(model, "Once upon a time", PARAMS)
    node = tree.path(tree.generate(12))[6]
    other = int(tree.alternatives(node, 2).ids[1])
    before = tree.n_computed
    leaf = tree.branch(node, other, 3)
    first = tree.path(leaf)[7]
    assert first.token_id == other and first.n_reused >= len(tree.ids(node)) - 1
    assert tree.n_computed - before <= 5
    assert tree.ids(leaf)[: len(tree.ids(node))] == tree.ids(node)
    assert len(tree.leaves) == 2 and len(tree.children(node)) == 2


def test_a_nodes_numbers_are_those_of_a_fresh_forward_pass(model):
    tree = TokenTree(model, "Lily saw", PARAMS)
    node = tree.path(tree.generate(5))[3]
    ids = tree.ids(node)
    logits = wb.to_numpy(model.forward(ids[:-1], model.new_cache(n_ctx=64)))[-1].astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    np.testing.assert_allclose(node.prob, p[ids[-1]], rtol=1e-4)
    assert node.rank == (p > p[ids[-1]]).sum()
    np.testing.assert_allclose(node.entropy, -(p * np.log(p)).sum(), rtol=1e-4)
    np.testing.assert_allclose(node.surprise, -np.log(node.prob))


def test_entropy_of_even_and_certain_choices():
    np.testing.assert_allclose(entropy_of(np.zeros(8, np.float32)), np.log(8))
    np.testing.assert_allclose(entropy_of(np.array([0, -np.inf], np.float32)), 0)


def test_wrong_places_in_a_tree_are_refused(model):
    tree = TokenTree(model, "Once", PARAMS)
    with pytest.raises(wb.ParameterError, match="unknown token id 5000; expected from 0 to 4095"):
        tree.branch(0, 5000)
    with pytest.raises(wb.ParameterError, match="node: not in this tree"):
        tree.text(7)
    with pytest.raises(wb.ParameterError, match="n_tokens: expected a whole number"):
        tree.generate(0)


def test_distinct_and_repetition_by_hand():
    ids = np.array([1, 2, 1, 2, 3])
    assert distinct(ids, 1) == 3 / 5 and distinct(ids, 2) == 3 / 4
    assert repetition(ids) == 2 / 5 and repetition(ids, window=1) == 0
    assert np.isnan(distinct(ids, 6)) and np.isnan(repetition(ids[:0]))


def test_a_sweep_writes_what_generate_writes(model):
    sweep = sampling_sweep(model, "One day", (0.5, 1.2), (0.6, 1.0), n_tokens=15, seed=5)
    params = wb.SamplingParams(temperature=1.2, top_p=0.6, top_k=0, min_p=0, seed=5)
    text = "".join(s.text for s in wb.generate(model, "One day", params, 15))
    assert sweep.texts[1][0].text == text
    assert sweep.table().shape == (4, 6) and sweep.mean_logprob.shape == (2, 2)
    with pytest.raises(wb.ParameterError, match="at least one temperature"):
        sampling_sweep(model, "One day", ())
    with pytest.raises(wb.ParameterError, match="temperature: out of range"):
        sampling_sweep(model, "One day", (-1.0,))
