"""vlbench bench: every number is there and sensible; how fast it is is reported, never asserted."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vlbench.bench import BenchReport, bench, show_bench
from vlbench.bench.contest import TOLERANCE, largest_difference, ratio
from vlbench.bench.trial import Timed, Trial, build, make_feed, recipe_of
from vlbench.data.batches import Collator
from vlbench.data.madeup import (
    EASY,
    MadeUpImages,
    MadeUpWords,
    Sharing,
    made_up_examples,
    made_up_target,
    made_up_texts,
)
from vlbench.learner import Learner
from vlbench.proof.references import REFERENCES, give_weights
from vlbench.types import BadData, Fault, Misuse


@pytest.fixture(scope="module")
def report() -> BenchReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return bench(["lxmert"], size="mini", batch=4, steps=2, repeats=2, regions=3, text_length=10, device="cpu")


def test_both_subjects_on_both_settings(report: BenchReport) -> None:
    assert [(row.subject, row.setting) for row in report.rows] == [
        ("vlbench LXMERT", "own"),
        ("transformers LXMERT", "own"),
        ("vlbench LXMERT", "shared"),
        ("transformers LXMERT", "shared"),
    ]


def test_the_document_holds_finite_positive_numbers(report: BenchReport) -> None:
    document = json.loads(json.dumps(report.as_json(), allow_nan=False))
    for row in document["rows"]:
        for key in (
            "train_samples_per_second",
            "evaluate_samples_per_second",
            "flops_per_sample",
            "parameters",
        ):
            assert row[key] > 0, key
        assert row["peak_memory_bytes"] > 4 * row["parameters"]  # the weights alone are as much
        assert 0 <= row["data_wait_share"] <= 1
        assert row["train_range"][0] <= row["train_samples_per_second"] <= row["train_range"][1]
        assert (row["train_ratio"] is None) == row["reference"]
    assert document["machine"]["device"] == "cpu"
    assert document["machine"]["threads"] == 1


def test_subjects_compute_the_same(report: BenchReport) -> None:
    assert [agreement.setting for agreement in report.agreements] == ["own", "shared"]
    assert all(0 < agreement.error <= TOLERANCE for agreement in report.agreements)


def test_counted_work_is_alike_but_where_sharing_saves_it(report: BenchReport) -> None:
    own, reference, shared, all_pairs = report.rows
    assert own.parameters == reference.parameters
    assert own.flops_per_sample == pytest.approx(reference.flops_per_sample, rel=0.01)
    assert shared.flops_per_sample < all_pairs.flops_per_sample


def test_the_table_says_what_it_rests_on(report: BenchReport) -> None:
    console = Console(file=StringIO(), width=200)
    show_bench(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for wanted in ("transformers LXMERT", "vlbench / reference", "same weights", "107 distinct", "1 threads"):
        assert wanted in text


@pytest.mark.parametrize(("method", "size"), [("lxmertt", "mini"), ("lxmert", "minni")])
def test_a_wrong_name_is_a_misuse_before_anything_starts(method: str, size: str) -> None:
    with pytest.raises(Misuse, match=r"lxmert|mini"):
        bench([method], size=size)


def test_a_fault_in_a_subject_reaches_the_user(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("raise RuntimeError('made to fail')\n")
    with pytest.raises(Fault, match="made to fail"):
        bench([str(file)], size="mini", batch=2, steps=1, repeats=1, regions=2, text_length=5, device="cpu")


def test_made_up_data_shares_what_it_should() -> None:
    def batch(sharing: Sharing) -> tuple[int, int]:
        examples = made_up_examples(48, sharing, EASY, length=12)
        collate = Collator(
            MadeUpImages(48, 5, 7), MadeUpWords(), length=12, answers=EASY.answers, target=made_up_target
        )
        made = collate(examples)
        assert made.target is not None
        assert made.target.sum() == 48
        assert made.image.values.shape[1:] == (5, 7)
        assert made.image.boxes is not None
        assert bool((made.image.boxes[..., :2] <= made.image.boxes[..., 2:]).all())
        return len(made.image.values), len(made.text.tokens)

    assert batch(Sharing(1, 0)) == (48, 48)
    assert batch(Sharing(9.6, 3)) == (5, 3)


def test_made_up_texts_are_distinct_and_as_long_as_asked() -> None:
    texts = made_up_texts(500, 2000, 12)
    pieces = MadeUpWords().encode(texts, 12)
    assert len(set(texts)) == 500
    assert max(map(len, pieces)) == 12
    assert min(map(len, pieces)) >= 3


def test_every_setting_makes_the_same_batches_for_both_subjects() -> None:
    trial = Trial("lxmert", False, "shared", "mini", 8, 1, 3, 10, "cpu", "")
    ours, theirs = make_feed(trial).parts(1)[0], make_feed(trial._replace(reference=True)).parts(1)[0]
    assert ours.ids == theirs.ids
    assert torch.equal(ours.image.values, theirs.image.values)
    assert torch.equal(ours.text.tokens, theirs.text.tokens)


def test_weights_that_do_not_pair_up_are_refused() -> None:
    trial = Trial("lxmert", False, "own", "mini", 2, 1, 3, 10, "cpu", "")
    ours = build(trial, recipe_of(trial)).state_dict()
    reference: Learner = build(trial._replace(reference=True), recipe_of(trial))
    give_weights(reference, ours, REFERENCES["lxmert"].table)
    ours["model.one_more"] = torch.zeros(1)
    with pytest.raises(BadData, match="one_more"):
        give_weights(reference, ours, REFERENCES["lxmert"].table)
    del ours["model.one_more"], ours["model.pooler.dense.weight"]
    with pytest.raises(BadData, match="pooler"):
        give_weights(reference, ours, REFERENCES["lxmert"].table)


def test_a_difference_is_found_and_nan_never_agrees() -> None:
    assert largest_difference([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.5], [3.0, 4.1]]) == 0.5
    assert not largest_difference([[1.0, 2.0]], [[float("nan"), 2.0]]) <= TOLERANCE


def test_a_ratio_is_taken_within_a_turn() -> None:
    slowing = [Timed(100.0, 0.0), Timed(50.0, 0.0), Timed(10.0, 0.0)]
    assert ratio(slowing, [Timed(t.samples_per_second / 2, 0.0) for t in slowing]) == 2.0
