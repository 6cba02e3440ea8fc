"""`workbench generate`: options reach the samplers, and a run can be recorded."""

import json

import numpy as np
from typer.testing import CliRunner

import workbench as wb
from workbench.cli.app import app


def run(*arguments):
    return CliRunner().invoke(app, ["generate", *arguments])


def test_the_same_options_write_the_text_of_the_package():
    result = run("Once upon a time", "-n", "20", "--temperature", "1.1", "--seed", "5")
    with wb.load_model(wb.builtin_model_path()) as model:
        params = wb.SamplingParams(temperature=1.1, seed=5)
        text = "".join(s.text for s in wb.generate(model, "Once upon a time", params, 20))
    assert f"Once upon a time{text}" in result.output


def test_a_recorded_run_is_reopened(tmp_path):
    path = tmp_path / "run.npz"
    assert run("One day", "-n", "8", "--record", str(path)).exit_code == 0
    record = wb.RunRecord.load(path)
    assert record.n_tokens == 8
    np.testing.assert_array_equal(record.top_ids[:, 0].shape, (8,))


def test_a_schema_gives_json():
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"age": {"type": "integer", "maximum": 9, "minimum": 0}},
            "required": ["age"],
            "additionalProperties": False,
        }
    )
    result = run("The dog is ", "-n", "60", "--json-schema", schema)
    text = result.output[result.output.index("The dog is ") + 11 :]
    assert 0 <= json.loads(text[: text.index("}") + 1])["age"] <= 9


def test_two_grammars_are_refused():
    result = run("a", "--regex", "a+", "--gbnf", 'root ::= "a"')
    assert result.exit_code != 0
    assert "expected one of its options" in str(result.output) + str(result.exception)
