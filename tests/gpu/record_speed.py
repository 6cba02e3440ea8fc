"""Puts runs of `workbench bench --json` into data/h200_speed.json and prints README's table.

    python tests/gpu/record_speed.py [lines.jsonl]

Lines that are no JSON are passed over; a run takes the place of an older one of the same model and
device. What the models are, apart from any run, is counted anew from their recipes.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import workbench as wb
from workbench.analysis import synthetic, token_budget
from workbench.analysis.speed_record import RECORD
from workbench.analysis.token_budget import budget_by_family, multiplied_weights

PATH = wb.builtin_model_path().with_name(RECORD)
DEPTHS = {"tg128": 0, "tg128 @ d4096": 4096}
TESTS = (*DEPTHS, "pp512", "pp2048 @ d4096")


def facts_of(spec: str) -> dict:
    """What a synthetic model such as "8b-Q4_K_M" is, without writing it."""
    name, recipe = spec.split("-", 1)
    shape, kind = synthetic.SHAPES[name], synthetic._file_type(recipe)
    metadata, plain = synthetic._metadata(spec, shape, kind), synthetic._tensors(shape)
    types = {c.name: c.type for c in synthetic.choose_types(plain, metadata, kind)}
    tensors = {
        tensor: SimpleNamespace(shape=m.shape, nbytes=synthetic._nbytes(types[tensor], m.shape))
        for tensor, m in plain.items()
    }
    config = wb.ModelConfig.from_metadata(metadata)
    budgets = {test: token_budget(config, tensors, depth + 64) for test, depth in DEPTHS.items()}
    families = {test: budget_by_family(b).set_index("family") for test, b in budgets.items()}
    in_layers, in_head = multiplied_weights(config, tensors)
    return {
        "n_layer": config.n_layer,
        "size_bytes": sum(tensor.nbytes for tensor in tensors.values()),
        "layer_params": in_layers,
        "head_params": in_head,
        "launches": int(families["tg128"].launches.sum()),
        "family_bytes": {
            test: {name: int(n) for name, n in f.nbytes.drop("activations").items()}
            for test, f in families.items()
        },
    }


def main(lines: list[str]) -> None:
    record = json.loads(PATH.read_text())
    found = [json.loads(line) for line in lines if line.startswith("{")]
    fresh = {(run["model"]["name"], run["device"]): run for run in found}
    kept = [run for run in record["runs"] if (run["model"]["name"], run["device"]) not in fresh]
    record["models"] = {spec: facts_of(spec) for spec in record["peer"]["tokens_per_s"]}
    record["runs"] = kept + list(fresh.values())
    PATH.write_text(json.dumps(record, indent=1) + "\n")
    print(wb.analysis.read_speed_record(PATH).to_markdown(TESTS))


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text().splitlines() if sys.argv[1:] else [])
