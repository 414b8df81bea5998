"""CapFilt from command to corpus, and pre-training that goes on from it, on a tiny made-up world."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vlbench import session
from vlbench.capfilt import decisions
from vlbench.capfilt.decisions import Decision, Judged, read_decisions, tally, whole_lines
from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.paths import card_folder
from vlbench.types import BadData

PLAIN = ("--no-mlflow", "--json")
FEW = ("--set", "steps=1", "--set", "rate=1e-6", "--set", "batch=8", *PLAIN)
"""So little that the filter is as it was drawn, which keeps some texts; what learns says no to all at first."""
Command = Callable[..., Any]
MADE = ("captions.json", "filtered.json", "corpus.toml", "filtered.toml", "decisions.jsonl", "capfilt.json")


class Begun:
    """A data folder with a tiny world, and runs with a BLIP pre-trained for a few steps on it."""

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out, self.run = data, out, ""

    def typed(self, *words: object, corpus: object = "world-web", data: Path | None = None) -> tuple[object, ...]:
        place = ("--start", f"run:{self.run}", "--data", data or self.data, "--out", self.out)
        return ("capfilt", corpus, *place, "--set", "tokeniser=train", *words)


@pytest.fixture(scope="module")
def world(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """Shared by all tests: captioner and filter are made once."""
    root = tmp_path_factory.mktemp("capfilt")
    return Begun(Path(shutil.copytree(made, root / "data")), root / "runs")


@pytest.fixture
def begun(world: Begun, command: Command) -> Begun:
    if not world.run:
        # with these words the filter is drawn so that it keeps some
        typed = (
            "--set",
            "corpora=world,world-web",
            "--set",
            "tokeniser=train",
            "--data",
            world.data,
            "--out",
            world.out,
            *FEW,
        )
        world.run = found(command("pretrain", "blip", *typed))["runs"][0]["id"]
    return world


def found(done: Any) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


def written(folder: Path) -> dict[str, bytes]:
    assert sorted(path.name for path in folder.iterdir()) == sorted(MADE)
    return {name: (folder / name).read_bytes() for name in MADE}


def stop_after(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Let the work be stopped by Ctrl-C after so many parts."""
    left = iter(range(parts))

    @contextmanager
    def interruptible() -> Iterator[Callable[[], bool]]:
        yield lambda: next(left, None) is not None

    monkeypatch.setattr(session, "interruptible", interruptible)


def test_ordinary_pretraining_makes_neither_captioner_nor_filter() -> None:
    card = find(ModelCard, "blip")
    assert card.stages() == card.stages_for("retrieval") == [""]
    assert card.stages_of_command("capfilt") == ["captioner", "filter"]
    assert find(ModelCard, "albef").stages_of_command("capfilt") == []
    assert card.pretraining("captioner")["losses"] == {"words": 1.0}
    assert card.pretraining("filter")["losses"] == {"contrast": 1.0, "matching": 1.0}


def test_a_web_corpus_is_bootstrapped_and_pretraining_goes_on_from_it(begun: Begun, command: Command) -> None:
    about = found(command(*begun.typed(*FEW)))
    folder = begun.data / "capfilt" / "world-web"
    assert about["folder"] == str(folder)
    made = written(folder)
    assert {key: value for key, value in about.items() if key != "folder"} == json.loads(made["capfilt.json"])
    records = [json.loads(path.read_text()) for path in begun.out.rglob("record.json")]
    stages = {one["recipe"]["stage"]: one for one in records}
    assert set(stages) == {"", "captioner", "filter"}
    assert set(stages["captioner"]["losses"]) == {"words"}
    assert set(stages["filter"]["losses"]) == {"contrast", "matching"}
    for name in ("captioner", "filter"):
        assert stages[name]["recipe"]["start"].endswith(begun.run)
        assert stages[name]["recipe"]["corpora"] == ["world"]
        assert stages[name]["inputs"]["words"] == stages[""]["inputs"]["words"]
        assert about["made_of"][name] == stages[name]["weights"]
        assert about["runs"][name] == stages[name]["id"]

    web = json.loads((begun.data / "world/small/corpora/web.json").read_text())
    decided = list(read_decisions(folder / "decisions.jsonl"))
    assert [(one.image, one.web[0].text) for one in decided] == [(one["image"], one["caption"]) for one in web]
    assert all(one.synthetic and (one.synthetic.text or not one.synthetic.kept) for one in decided)
    assert len({one.synthetic.text for one in decided if one.synthetic}) > len(decided) // 2  # drawn, image by image
    for one in decided:
        for judged in (*one.web, one.synthetic):
            assert judged
            assert judged.kept == (judged.probability > 0.5) or judged.probability == 0.5
    assert 0 < about["web"]["kept"] < len(web)
    assert 0 < about["synthetic"]["kept"] < len(web)
    kept = [{"image": one.image, "caption": one.kept} for one in decided if one.kept]
    assert json.loads(made["captions.json"]) == kept
    assert json.loads(made["filtered.json"]) == [
        {"image": one.image, "caption": [one.web[0].text]} for one in decided if one.web[0].kept
    ]
    truth = [json.loads(line)["right"] for line in (begun.data / "world/small/corpora/web_truth.jsonl").open()]
    both = sum(right and one.web[0].kept for one, right in zip(decided, truth, strict=True))
    assert about["web"]["texts"] == about["images"]["judged"] == len(web)
    assert about["web"]["right"] == sum(truth)
    assert about["web"]["recall"] == round(100 * both / sum(truth), 2)
    assert not {"precision", "recall"} & about["synthetic"].keys()

    again = command(*begun.typed(*FEW))
    assert "made before" in again.err
    assert found(again) == about
    for corpora in ("world,capfilt/world-web/corpus.toml", f"{folder}/corpus.toml*2"):  # below the data, or anywhere
        typed = ("--set", f"corpora={corpora}", "--data", begun.data, *FEW)
        (record,) = found(command("pretrain", "blip", *typed))["runs"]
        assert "world-web-corpus" in record["dataset"]
        assert record["steps"] == 1
        assert record["note"] == ""


def test_neither_batch_nor_stop_changes_what_comes_out(
    begun: Begun, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = begun.typed(*FEW, "--into")
    found(command(*typed, tmp_path / "whole", "--set", "evaluate_batch=6"))
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        command(*typed, tmp_path / "parts", "--set", "evaluate_batch=6").refused(1, "stopped")
    assert not (tmp_path / "parts").exists()
    work = tmp_path / ".parts.part" / "decisions.jsonl"
    lines = work.read_bytes().splitlines(keepends=True)
    assert 6 <= len(lines) < 40
    work.write_bytes(b"".join(lines) + lines[0][:20])  # killed as it wrote
    asked: list[int] = []
    usual = decisions.whole_lines

    def counted(path: Path, batch: int, total: int) -> int:
        asked.append(usual(path, batch, total))
        return asked[-1]

    with monkeypatch.context() as patch:
        patch.setattr("vlbench.capfilt.judging.whole_lines", counted)
        found(command(*typed, tmp_path / "parts", "--set", "evaluate_batch=6"))
    assert asked == [len(lines)]  # what was judged is not judged again
    assert written(tmp_path / "parts") == written(tmp_path / "whole")
    assert not work.parent.exists()

    found(command(*typed, tmp_path / "large", "--set", "evaluate_batch=64", "--set", "workers=0"))
    large, whole = written(tmp_path / "large"), written(tmp_path / "whole")
    for name in ("captions.json", "filtered.json", "corpus.toml", "filtered.toml", "capfilt.json"):
        assert large[name] == whole[name]
    pairs = zip(*(read_decisions(tmp_path / name / "decisions.jsonl") for name in ("whole", "large")), strict=True)
    for one, other in pairs:  # sums of another shape may differ in their last digits
        assert one.synthetic
        assert other.synthetic
        assert one.synthetic.text == other.synthetic.text
        assert one.synthetic.probability == pytest.approx(other.synthetic.probability, abs=2e-4)


def test_another_seed_writes_other_captions(begun: Begun, command: Command, tmp_path: Path) -> None:
    texts = []
    for seed in (0, 1):
        # the seed of training stays: it is that of the captions only that differs
        from vlbench.capfilt import judging

        image = judging.Parts(None, (), (), batch=1, total=1, seed=seed)  # type: ignore[arg-type]
        texts.append((image._draws("a.png").tolist(), image._draws("b.png").tolist()))
    assert texts[0] != texts[1]
    assert texts[0][0] != texts[0][1]
    assert all(0 <= one < 1 for pair in texts for draws in pair for one in draws)


def test_broken_images_are_counted_and_named(begun: Begun, command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(begun.data / "world", data / "world")
    web = json.loads((data / "world/small/corpora/web.json").read_text())
    (data / "world/small/images" / web[2]["image"]).write_bytes(b"no picture")
    (data / "world/small/images" / web[5]["image"]).unlink()
    words = begun.typed(data=data)
    about = found(command(*words, *FEW, "--set", "evaluate_batch=3"))
    lost = [web[2]["image"], web[5]["image"]]
    assert about["images"] == {"judged": len(web) - 2, "unreadable": 2, "first_unreadable": lost}
    assert about["web"]["texts"] == len(web) - 2
    named = {one.image: one.unreadable for one in read_decisions(Path(about["folder"]) / "decisions.jsonl")}
    assert "cannot be decoded" in named[lost[0]]
    assert "not here" in named[lost[1]]
    assert sum(map(bool, named.values())) == 2
    kept = {one["image"] for one in json.loads((Path(about["folder"]) / "captions.json").read_text())}
    assert not kept & {*lost}
    shown = command(*(word for word in (*words, *FEW) if word != "--json"), "--set", "evaluate_batch=3")
    assert "2 images cannot be read" in shown.err
    assert "of the kept web texts" in shown.out


def judged(kept: bool) -> Judged:
    return Judged("a text", kept, 0.75 if kept else 0.25)


def test_precision_and_recall_are_those_of_the_decisions(tmp_path: Path) -> None:
    made = [(True, True), (True, True), (True, False), (False, True), (False, False), (False, True), (False, True)]
    lines = [
        Decision(number, f"{number}.png", (judged(kept),), judged(number == 1)) for number, (_, kept) in enumerate(made)
    ]
    lines.append(Decision(len(made), "lost.png", (judged(False),), None, "not here"))
    (tmp_path / "decisions.jsonl").write_text("".join(one.line() for one in lines))
    right = [one for one, _ in made] + [True]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps({"right": one}) + "\n" for one in right))
    counts = tally(tmp_path / "decisions.jsonl", tmp_path / "truth.jsonl").counts()
    assert counts["images"] == {"judged": 7, "unreadable": 1, "first_unreadable": ["lost.png"]}
    assert counts["web"] == {
        "texts": 7, "kept": 5, "share_kept": 71.43, "right": 3, "right_kept": 2, "wrong": 4, "wrong_kept": 3,
        "share_right": 42.86, "precision": 40.0, "recall": 66.67,
    }  # fmt: skip
    assert counts["synthetic"] == {"texts": 7, "kept": 1, "share_kept": 14.29}
    assert tally(tmp_path / "decisions.jsonl", None).counts()["web"] == {"texts": 7, "kept": 5, "share_kept": 71.43}
    line = '{"right": true}\n'
    for text, wrong in ((7 * line, "ends before"), (9 * line, "goes on after"), ("1", "should be"), ("r", "not JSON")):
        (tmp_path / "truth.jsonl").write_text(text)
        with pytest.raises(BadData, match=wrong):
            tally(tmp_path / "decisions.jsonl", tmp_path / "truth.jsonl")


def test_a_truth_of_several_texts_an_image_is_read_text_by_text(tmp_path: Path) -> None:
    lines = [
        Decision(0, "a.png", (judged(True), judged(False), judged(True)), judged(True)),
        Decision(1, "b.png", (judged(True),), judged(True)),
    ]
    (tmp_path / "decisions.jsonl").write_text("".join(one.line() for one in lines))
    (tmp_path / "truth.jsonl").write_text("".join(f'{{"right": {one}}}\n' for one in ("false", "true", "true", "true")))
    counts = tally(tmp_path / "decisions.jsonl", tmp_path / "truth.jsonl").counts()["web"]
    assert (counts["right"], counts["right_kept"], counts["kept"]) == (3, 2, 3)


def test_a_file_that_was_being_written_is_cut_to_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    assert whole_lines(path, 4, 10) == 0
    lines = [Decision(number, "a.png", (judged(True),), judged(True)).line().encode() for number in range(10)]
    for there, kept in ((3, 0), (4, 4), (7, 4), (9, 8), (10, 10)):
        path.write_bytes(b"".join(lines[:there]) + lines[0][:7])
        assert whole_lines(path, 4, 10) == kept
        assert path.read_bytes() == b"".join(lines[:kept])
    path.write_bytes(lines[0] + b"\0\0\n" + lines[2])
    with pytest.raises(BadData, match="line 2: not a decision"):
        whole_lines(path, 4, 10)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(BadData, match="line 2: is of the record 2"):
        list(read_decisions(path))


def test_what_lies_there_is_replaced_only_when_that_is_said(begun: Begun, command: Command, tmp_path: Path) -> None:
    typed = begun.typed(*FEW, "--into", tmp_path / "made")
    before = found(command(*typed))
    command(*typed, "--limit", 20).refused(1, "was made of other inputs", "records judged")
    after = found(command(*typed, "--limit", 20, "--fresh"))
    assert (before["web"]["texts"], after["web"]["texts"]) == (64, 20)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    for fresh in ((), ("--fresh",)):
        command(*begun.typed(*FEW, "--into", tmp_path / "other"), *fresh).refused(1, "holds something else")
    assert (tmp_path / "other" / "letter.txt").is_file()


def test_a_dry_run_changes_nothing(begun: Begun, command: Command, tmp_path: Path) -> None:
    plan = found(command(*begun.typed(*FEW, "--into", tmp_path / "none", "--dry-run")))
    assert [one["stage"] for one in plan["stages"]] == ["captioner", "filter"]
    assert {one["steps"] for one in plan["stages"]} == {1}
    assert plan["folder"] == str(tmp_path / "none")
    assert list(tmp_path.glob("*none*")) == []


def test_the_suite_of_the_study_goes_from_the_noisy_web_to_what_is_left(
    begun: Begun, command: Command, tmp_path: Path
) -> None:
    text = Path(card_folder("suites") / "capfilt.toml").read_text()
    for usual, other in {"steps = 300": "steps = 1", "rate = 5e-4": "rate = 1e-6"}.items():
        assert usual in text
        text = text.replace(usual, other)
    text += "[all]\nbatch = 8\nrate = 1e-6\n[tasks.retrieval]\nsteps = 1\n"
    text += "[pretrain.all]\nsteps = 1\nbatch = 8\nrate = 1e-6\n"
    (tmp_path / "short.toml").write_text(text)
    data = tmp_path / "data"
    shutil.copytree(begun.data / "world", data / "world")
    place = ("--suite", tmp_path / "short.toml", "--data", data, "--out", tmp_path / "runs", *PLAIN)
    typed = ("run", "blip", "retrieval", *place, "--limit", "8", "--seed", "0")
    command(*typed, "--set", "variant=filtered").refused(2, "capfilt/world-web/filtered.toml", todo=True)
    about = found(command("capfilt", "world-web", *place))
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("record.json")]
    (noisy,) = [one for one in records if not one["recipe"]["stage"]]
    assert noisy["recipe"]["corpora"] == ["world", "world-web"]
    assert about["runs"]["start"] == f"run:{noisy['id']}"
    runs = {one["recipe"]["variant"]: one for one in found(command(*typed))["runs"]}
    assert set(runs) == {"noisy", "filtered", "bootstrapped"}
    assert runs["noisy"]["recipe"]["start"] == f"run:{noisy['id']}"
    assert len({one["recipe"]["start"] for one in runs.values()}) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--start", "scratch"), 2, "'scratch' is none"),
        (("--start", "publised"), 2, "did you mean 'published'?"),
        (("--start", "run:nothing"), 2, "no finished run"),
        (("--start", "published"), 2, "no published pre-training 'published' of size mini"),
        (("--clean", "wrold"), 2, "did you mean 'world'?"),
        (("--clean", "world-lxmert"), 2, "learn from captions of images"),
        (("--set", "evaluate_batch=none"), 2, "evaluate_batch"),
        (("--suite", "nowhere"), 2, "no suite is called 'nowhere'"),
    ],
)
def test_what_cannot_be_is_refused(
    begun: Begun, command: Command, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    command(*begun.typed(*FEW, "--into", tmp_path / "none"), *words).refused(code, said)
    assert not (tmp_path / "none").exists()


def test_only_a_pretrained_method_that_can_is_a_start(begun: Begun, command: Command, tmp_path: Path) -> None:
    place = ("--data", begun.data, "--out", tmp_path / "runs", *FEW)
    (other,) = found(command("pretrain", "coca", *place))["runs"]
    (tuned,) = found(command("run", "blip", "retrieval", "--dataset", "world", *place, "--limit", "8"))["runs"]
    typed = ("capfilt", "world-web", *place, "--start")
    command(*typed, f"run:{other['id']}").refused(2, "a run of coca, which has no captioner and filter")
    command(*typed, f"run:{tuned['id']}").refused(2, "begin from a pre-training", "is of retrieval")
    found(command(*begun.typed(*FEW, "--into", tmp_path / "made")))
    captioner = json.loads((tmp_path / "made" / "capfilt.json").read_text())["runs"]["captioner"]
    start = ("--start", f"run:{captioner}", "--into", tmp_path / "twice")
    command(*begun.typed(*FEW), *start).refused(2, "the captioner of an earlier CapFilt")


@pytest.mark.parametrize(("corpus", "said"), [("lxmert", "no image files"), ("cc3m", "no images here")])
def test_a_corpus_without_images_is_refused(begun: Begun, command: Command, corpus: str, said: str) -> None:
    assert said in command(*begun.typed(*FEW, corpus=corpus)).complaints[0]


def test_a_corpus_by_its_card_and_in_a_table(begun: Begun, command: Command, tmp_path: Path) -> None:
    """Images that lie in another folder, are called without their suffix, and have a text each in a table."""
    folder = tmp_path / "mine"
    folder.mkdir()
    web = json.loads((begun.data / "world/small/corpora/web.json").read_text())[:10]
    for row, record in enumerate(web):
        shutil.copy(begun.data / "world/small/images" / record["image"], folder / f"{row:03d}.png")
    rows = "".join(f"{one['caption']}\thttp://{row}\n" for row, one in enumerate(web))
    (folder / "rows.tsv").write_text(rows)
    card = """
name = "mine"
about = "mine"
home = "here"
licence = "mine"
layout = "table"
[table]
columns = ["caption", "url"]
image_name = "{row:03d}"
[[file]]
name = "rows.tsv"
role = "texts"
[[file]]
name = "."
role = "images"
"""
    (folder / "mine.toml").write_text(card)
    typed = begun.typed(corpus=folder / "mine.toml")
    about = found(command(*typed, *FEW, "--into", tmp_path / "made"))
    assert about["corpus"] == "mine"
    assert "precision" not in about["web"]
    images = [one.image for one in read_decisions(tmp_path / "made" / "decisions.jsonl")]
    assert images == [f"{row:03d}.png" for row in range(10)]
    typed = ("--set", f"corpora=world,{tmp_path}/made/corpus.toml", "--data", begun.data, *FEW)
    (record,) = found(command("pretrain", "blip", *typed))["runs"]
    assert record["note"] == ""


def test_a_text_is_kept_from_the_probability_that_is_typed(begun: Begun, command: Command, tmp_path: Path) -> None:
    kept = {}
    for least in (0.5, 0.1):
        folder = tmp_path / f"{least}"
        about = found(command(*begun.typed(*FEW, "--into", folder, "--keep-above", least)))
        assert about["made_of"]["keep above"] == least
        decided = list(read_decisions(folder / "decisions.jsonl"))
        judged = [text for one in decided for text in one.web]
        assert all(text.kept == (text.probability > least) for text in judged if abs(text.probability - least) > 1e-3)
        kept[least] = {one.number for one in decided if one.web[0].kept}
    assert kept[0.5] < kept[0.1]
    command(*begun.typed(*FEW, "--into", tmp_path / "0.5", "--keep-above", 0.2)).refused(1, "keep above")
    command(*begun.typed(*FEW, "--into", tmp_path / "none", "--keep-above", 1)).refused(2)
