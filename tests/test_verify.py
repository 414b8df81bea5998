"""vlbench verify: what is chosen, what is said, and that a proof can fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from vlbench import verify as verify_module
from vlbench.proof.cases import Check
from vlbench.types import Fault, Misuse
from vlbench.verify import as_json, choose, exit_code, find_evidence, show_checks, verify

OFFICIAL = Path(__file__).parent / "official"


def names(*typed: str) -> list[str]:
    return [
        f"{item.kind} {item.folder.name}"
        for item in choose([*typed], find_evidence(None))
        if item.name in ("lxmert", "vqa_v2", "vqa_soft_targets")
    ]


LXMERT = ["parity backbone", "parity gqa", "parity hf", "parity nlvr2", "parity pretrain", "parity vqa"]
METRICS = ["metric vqa_soft_targets", "metric vqa_v2"]


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        ([], [*LXMERT, *METRICS]),
        (["parity"], LXMERT),
        (["metric"], METRICS),
        (["metric", "parity"], [*LXMERT, *METRICS]),
        (["lxmert"], LXMERT),
        (["LXMERT/hf"], ["parity hf"]),
        (["parity", "lxmert/hf", "metric", "vqa-v2"], ["parity hf", "metric vqa_v2"]),
        (["vqa_v2", "parity"], [*LXMERT, "metric vqa_v2"]),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_names_choose(typed: list[str], chosen: list[str]) -> None:
    assert names(*typed) == chosen


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["lxmrt"], "did you mean 'lxmert'"),
        (["vqa_v3"], "did you mean 'vqa_v2'"),
        (["paritty"], "did you mean 'parity'"),
        (["parity", "vqa_v2"], "no parity case of 'vqa_v2'"),
    ],
)
def test_an_unknown_name_is_a_misuse_at_once(typed: list[str], said: str) -> None:
    with pytest.raises(Misuse, match=said):
        verify(typed)


def test_cases_are_rerun() -> None:
    checks = list(verify(["lxmert/backbone", "vqa_soft_targets"]))
    assert checks[0].name == "parity lxmert/backbone"
    assert {check.name.split("/")[0] for check in checks[1:]} == {"metric vqa_soft_targets"}
    assert all(check.passed for check in checks)
    assert 0 < checks[0].error <= checks[0].tolerance
    assert exit_code(checks) == 0


def _cut(case: Path) -> None:
    (case / "io.safetensors").write_bytes((case / "io.safetensors").read_bytes()[:100])


def _other_config(case: Path) -> None:
    about = json.loads((case / "case.json").read_text())
    del about["config"]["hidden_size"]
    (case / "case.json").write_text(json.dumps(about))


def _stricter(case: Path) -> None:
    about = json.loads((case / "case.json").read_text())
    (case / "case.json").write_text(json.dumps({**about, "tolerance": 0.0}))


def _empty(case: Path) -> None:
    for path in case.iterdir():
        path.unlink()


@pytest.mark.parametrize("spoil", [_cut, _other_config, _stricter, _empty])
def test_spoilt_evidence_fails_and_stops_nothing(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    for case in ("gqa", "vqa"):
        shutil.copytree(OFFICIAL / "parity" / "lxmert" / case, tmp_path / "parity" / "lxmert" / case)
    spoil(tmp_path / "parity" / "lxmert" / "gqa")
    checks = list(verify([], tmp_path))
    assert [(check.name, check.passed) for check in checks] == [
        ("parity lxmert/gqa", False),
        ("parity lxmert/vqa", True),
    ]
    assert checks[0].note
    assert exit_code(checks) == 3


def test_evidence_we_do_not_know_fails(tmp_path: Path) -> None:
    (tmp_path / "parity" / "unheard" / "of").mkdir(parents=True)
    (tmp_path / "metrics" / "made_up").mkdir(parents=True)
    assert [check.passed for check in verify([], tmp_path)] == [False, False]


def test_no_evidence_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Fault, match="neither"):
        verify([], tmp_path)
    monkeypatch.setattr(verify_module, "__file__", str(tmp_path / "site-packages" / "vlbench" / "verify.py"))
    with pytest.raises(Fault, match="--official DIR"):
        verify([])


CHECKS = [
    Check("metric a/b", 2e-9, 1e-6, True),
    Check("parity c/d", float("inf"), 1e-5, False, "not computed: [logits]"),
]


def test_a_line_a_case_and_a_sum() -> None:
    console = Console(file=StringIO(), width=60)
    assert show_checks(iter(CHECKS), console) == 3
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "ok     error 2.0e-09 of 1e-06  metric a/b"
    assert lines[1] == "FAILED error    none of 1e-05  parity c/d"
    assert lines[2].strip() == "not computed: [logits]"
    assert lines[3] == "2 cases: 1 ok, 1 failed"
    assert show_checks(CHECKS[:1], console) == 0


def test_the_document_is_json() -> None:
    document = json.loads(json.dumps(as_json(CHECKS), allow_nan=False))
    assert (document["passed"], document["failed"]) == (1, 1)
    assert document["checks"][0]["error"] == 2e-9
    assert document["checks"][1]["error"] is None
    assert document["checks"][1]["note"] == "not computed: [logits]"
