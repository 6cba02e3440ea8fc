#!/usr/bin/env bash
# Measures what data/h200_speed.json records: one line of JSON for each recipe, on the first GPU.
#
#     bash tests/gpu/bench_models.sh > lines.jsonl          RECIPES="Q4_0 F16" SHAPE=1b for a part
#     python tests/gpu/record_speed.py lines.jsonl
#
# Models of random weights are written to TMPDIR one after the other, at most 16 GB at a time.
status=0
for recipe in ${RECIPES:-Q4_0 Q4_K_M Q6_K Q8_0 F16}; do
    python3 -m workbench.cli bench --synthetic "${SHAPE:-8b}:$recipe" --device cuda \
        -p 512,2048 -n 128 -d 0,4096 -r "${REPEATS:-5}" --json || status=1
done
exit $status
