"""Validation: each rule fires on a file made for it, and the verdicts are the two readers'."""

import json
import shutil
import tracemalloc

import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL, REFERENCE, needs_reference
from tests.gguf.build import Build
from tests.gguf.crafted import ARRAY, UINT32, all_crafted
from tests.gguf.test_hostile import CASES, MALFORMED, hostile_headers
from workbench.errors import GGUFError, ParameterError
from workbench.gguf import walk
from workbench.gguf.rules import PROFILES, RULES

CRAFTED = all_crafted()
ELSEWHERE = {name for name in RULES if name.startswith("split-")} | {
    "string-limit", "array-limit",  # tests of their own
    "value-not-finite", "scale-not-finite", "scale-impossible", "zero-blocks", "repeated-blocks",
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.gguf"


def opens(path) -> bool:
    try:
        wb.open_gguf(path)
    except GGUFError:
        return False
    return True


@pytest.mark.parametrize("case", CRAFTED, ids=lambda case: case.name)
def test_each_rule_fires_and_the_verdicts_are_the_readers(path, case):
    path.write_bytes(case.content)
    reports = {profile: wb.validate_gguf(path, profile) for profile in PROFILES}
    fired = {finding.rule for report in reports.values() for finding in report.findings}
    assert case.rule in fired
    assert reports["spec"].accepted == opens(path) == (not case.rejected)
    # gguf.cpp wants the last tensor's padding only when it reads the data itself, which
    # llama.cpp's loader does not: there the rule is a warning.
    refused = case.refused and case.rule != "end-not-padded"
    assert reports["llama.cpp"].accepted == (not refused)


def test_every_rule_has_a_file_that_breaks_it():
    assert {case.rule for case in CRAFTED} | ELSEWHERE == set(RULES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_malformed_files_get_the_verdict_of_the_specification(case):
    report = wb.validate_gguf(MALFORMED / case["file"])
    assert case["verdict"] in ("either", "accept" if report.accepted else "reject")


@needs_reference
def test_the_profile_llama_cpp_gives_the_verdicts_that_llama_cpp_gave():
    for case in json.loads((REFERENCE / "malformed" / "manifest.json").read_text())["cases"]:
        report = wb.validate_gguf(REFERENCE / "malformed" / case["file"], "llama.cpp")
        assert report.accepted == (case["llama_cpp"]["result"] == "ok"), case["file"]


@needs_reference
def test_files_of_llama_cpp_have_no_errors_and_no_warnings():
    for file in sorted(REFERENCE.glob("models/*.gguf")) + sorted(REFERENCE.glob("vocab/*.gguf")):
        report = wb.validate_gguf(file, "llama.cpp")
        assert report.complete and not report.count("error") and not report.count("warning"), report


def test_a_finding_says_where_it_is(path):
    build = Build()
    pair = build.pair("general.alignment", UINT32, build.pack("I", 12))
    path.write_bytes(build.file([pair]))
    finding = next(f for f in wb.validate_gguf(path).findings if f.severity == "error")
    at = path.read_bytes().index(b"general.alignment") + len("general.alignment")
    assert (finding.rule, finding.offset) == ("alignment-not-multiple-of-8", at)
    assert finding.place == "key 'general.alignment'" and finding.severity == "error"


def test_all_faults_are_found_not_only_the_first(path):
    build = Build()
    pairs = [build.pair("a", 7, b"\2"), build.pair("a", 7, b"\1"), build.pair("", 7, b"\3")]
    infos = [build.tensor("t", [8], 99, 0), build.tensor("u", [8], 0, 5)]
    path.write_bytes(build.file(pairs, infos, bytes(64)))
    rules = [finding.rule for finding in wb.validate_gguf(path).findings]
    assert rules.count("bool-value") == 2
    assert {"key-duplicate", "key-empty", "tensor-type-unknown", "offset-unaligned"} <= set(rules)


def test_damage_ends_the_walk_and_the_report_says_so(path):
    build = Build()
    path.write_bytes(build.file([build.pair("a", 7, b"\2"), build.pair("b", 77, b"")]))
    report = wb.validate_gguf(path)
    assert not report.complete and len(report.findings) >= 2
    assert "value type is 77, types are 0 to 12; the walk ends here" in repr(report)


def test_the_report_is_a_table_too(path):
    path.write_bytes(b"GGUF")
    frame = wb.validate_gguf(path).to_frame()
    assert list(frame.rule) == ["truncated"] and list(frame.offset) == [4]
    assert wb.validate_gguf(BUILTIN_MODEL).to_frame().empty


@pytest.mark.parametrize("name", hostile_headers())
def test_announced_sizes_are_found_without_allocating_them(path, name):
    path.write_bytes(hostile_headers()[name][0])
    wb.validate_gguf(path)  # what is imported at first use is not counted
    tracemalloc.start()
    assert not wb.validate_gguf(path).accepted
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_the_report_is_a_sequence_of_findings_with_one_line_each(path):
    path.write_bytes(b"GGUF")
    report = wb.validate_gguf(path)
    assert len(report) == 1 and list(report) == [report[0]] == list(report.findings)
    assert (
        report[0].text == "header: version needs 4 bytes, the file has 0 more; the walk ends here"
    )


def test_findings_without_number_are_counted_not_kept(path):
    build = Build()
    path.write_bytes(build.file([build.pair(f"k{i}", 7, b"\2") for i in range(5000)]))
    report = wb.validate_gguf(path)
    assert report.count("error") == 100
    assert report.findings[-1].message == "4900 more findings of this rule"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (Build().pair("k", 8, Build().string("s" * 101)), "string-limit"),
        (Build().pair("k", ARRAY, Build().array(0, [b"a"] * 101)), "array-limit"),
    ],
)
def test_what_is_too_long_for_llama_cpp_is_sound_otherwise(path, monkeypatch, value, rule):
    assert walk.LLAMA_LIMIT == 2**30
    monkeypatch.setattr(walk, "LLAMA_LIMIT", 100)  # a gigabyte is too much to write here
    path.write_bytes(Build().file([value]))
    reports = [wb.validate_gguf(path, profile) for profile in PROFILES]
    assert reports[0].accepted and not reports[1].accepted
    assert rule in [finding.rule for finding in reports[1].findings]


@pytest.mark.parametrize("arguments", [{"profile": "strict"}, {"profile": None}])
def test_an_unknown_profile_is_refused(arguments):
    with pytest.raises(
        ParameterError, match=r"profile: not known; expected one of spec, llama\.cpp"
    ):
        wb.validate_gguf(BUILTIN_MODEL, **arguments)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(GGUFError, match=r"no such file; expected a \.gguf file, got nothing"):
        wb.validate_gguf(tmp_path / "none.gguf")
    with pytest.raises(GGUFError, match=r"not a file; expected a \.gguf file, got a directory"):
        wb.validate_gguf(tmp_path)
    with pytest.raises(ParameterError, match=r"not a path; expected a string or Path, got 7\.5"):
        wb.validate_gguf(7.5)


def write_shards(folder, count=3, numbers=(0, 1, 2), total=3, names="abc"):
    """Shards of one tensor each; returns their paths."""
    build, paths = Build(), []
    for i in range(len(numbers)):
        pairs = [
            build.pair("general.architecture", 8, build.string("llama")),
            build.pair("split.no", 2, build.pack("H", numbers[i])),
            build.pair("split.count", 2, build.pack("H", count)),
            build.pair("split.tensors.count", 5, build.pack("i", total)),
        ]
        paths.append(folder / f"m-{i + 1:05}-of-{count:05}.gguf")
        paths[i].write_bytes(build.file(pairs, [build.tensor(names[i], [8], 0, 0)], bytes(32)))
    return paths


def test_a_whole_split_model_is_accepted_from_any_shard(tmp_path):
    for path in write_shards(tmp_path):
        assert wb.validate_gguf(path, "llama.cpp").findings == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"numbers": (0, 1)}, "split-shard-missing"),
        ({"numbers": (0, 2, 1)}, "split-shard-number"),
        ({"total": 4}, "split-tensor-count"),
        ({"names": "aba"}, "split-tensor-duplicate"),
    ],
)
def test_shards_that_do_not_fit_are_named(tmp_path, change, rule):
    path = write_shards(tmp_path, **change)[0]
    report = wb.validate_gguf(path)
    assert not report.accepted and rule in [finding.rule for finding in report.findings]


def test_a_broken_or_misnamed_shard_is_named(tmp_path):
    paths = write_shards(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    broken = wb.validate_gguf(paths[0]).findings[0]
    assert broken.rule == "split-shard-broken" and "m-00003-of-00003.gguf" in broken.message
    shutil.move(paths[0], tmp_path / "first.gguf")
    renamed = wb.validate_gguf(tmp_path / "first.gguf", "llama.cpp").findings[0]
    assert (renamed.rule, renamed.severity) == ("split-file-name", "error")


def test_split_keys_of_a_wrong_type_are_named(path):
    build = Build()
    path.write_bytes(build.file([build.pair("split.count", 4, build.pack("I", 1))]))
    findings = wb.validate_gguf(path).findings
    assert "split-keys" in [finding.rule for finding in findings]
