"""Every card parses, refers to things that exist, and its numbers have sources; wrong cards say what is wrong."""

import json
from pathlib import Path

import pytest

from vlbench.cards import CorpusCard, DatasetCard, ModelCard, SuiteCard, TaskCard
from vlbench.catalog import card_names, cards, find, read_card
from vlbench.data.words import CLEANING
from vlbench.engine.optimise import share_of_rate
from vlbench.models.base import Model
from vlbench.paths import card_folder
from vlbench.plan import plan
from vlbench.plugins import load_code
from vlbench.prepare import cleaning
from vlbench.recipe import Recipe, parse_setting, resolve
from vlbench.report.show import card_text
from vlbench.stages import plan_stage
from vlbench.tasks.base import Task
from vlbench.types import BadData, Misuse


@pytest.mark.parametrize("card", cards(ModelCard), ids=lambda card: card.id)
def test_model_cards(card: ModelCard) -> None:
    code = load_code(card.code, Model)
    assert issubclass(code, Model)
    assert code.sees == card.sees
    assert all(code.sees_at(sizes) == card.sees_at(name) for name, sizes in card.sizes.items())
    assert {"mini", "base"} <= set(card.sizes)
    assert set(card.modules) == {"vision", "text", "fusion", "decoder", "objectives"}
    for checkpoint in (*card.checkpoint, *card.part):
        assert (card_folder("registry") / "weights" / f"{checkpoint.names}.toml").is_file()
        assert checkpoint.size in card.sizes
    for stage in card.stages():
        assert {*card.pretraining(stage).get("corpora", ())} <= {*card_names(CorpusCard)}
    published = (card_folder("registry") / "published" / "results.csv").read_text(encoding="utf-8")
    assert f"\n{card.published}," in published


def test_lxmert_recipe_is_the_published_one() -> None:
    """Values of the card against the collected hyper-parameters, which name their source."""
    path = card_folder("registry") / "published" / "hyperparameters.json"
    source = json.loads(path.read_text(encoding="utf-8"))["LXMERT"]["finetune/VQA v2"]
    made = plan("lxmert", "vqa", suite="paper").recipe
    assert (made.rate, made.batch, made.epochs) == (source["lr"], source["batch_size"], source["epochs"])
    assert (made.decay, made.dropout, made.text_length) == (
        source["weight_decay"], source["dropout"], source["max_text_len"],
    )  # fmt: skip
    assert made.clip == source["extra"]["grad_clip"]
    assert made.warmup == source["extra"]["warmup_proportion"]
    assert ",".join(made.train_splits) == source["extra"]["train_splits"]
    assert ",".join(made.evaluate_splits) == source["extra"]["valid_split"]
    assert (made.epsilon, made.bias_correction, made.decay_all) == (1e-6, False, True)
    sizes = find(ModelCard, "lxmert").sizes["base"]
    layers = [source["extra"][f"layers_{kind}"] for kind in ("language", "vision", "cross")]
    assert [sizes[f"{kind}_layers"] for kind in ("text", "image", "cross")] == layers


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("lxmert", ["sees regions", "tokeniser bert-base-uncased"]),
        ("blip", ["sees pixels", "normalised by clip statistics", "crop when answering none", "prompt a picture of"]),
        ("meter", ["sees pixels; regions in mini-regions, base-regions", "crop when answering the middle"]),
    ],
)
def test_show_says_what_a_method_is_given(method: str, lines: list[str]) -> None:
    section = " ".join(card_text(method).split("\ninput\n")[1].split("\n\n")[0].split())
    assert all(line in section for line in lines)
    assert ("normalised" in section) == (find(ModelCard, method).sees == "pixels")
    assert ("prompt" in section) == (method == "blip")


@pytest.mark.parametrize(("task", "name"), [("gqa", "GQA"), ("nlvr2", "NLVR2")])
def test_lxmert_recipes_of_other_tasks_are_the_published_ones(task: str, name: str) -> None:
    path = card_folder("registry") / "published" / "hyperparameters.json"
    source = json.loads(path.read_text(encoding="utf-8"))["LXMERT"][f"finetune/{name}"]
    card = find(ModelCard, "lxmert")
    made = card.finetune[task]
    own = [made[key] for key in ("rate", "batch", "epochs", "decay", "dropout", "text_length", "clip", "warmup")]
    theirs = [source[key] for key in ("lr", "batch_size", "epochs", "weight_decay", "dropout", "max_text_len")]
    assert own == [*theirs, source["extra"]["grad_clip"], source["extra"]["warmup_proportion"]]
    assert {key for key in made if made[key] != card.finetune["vqa"][key]} <= {"rate"}


@pytest.mark.parametrize("card", cards(TaskCard), ids=lambda card: card.id)
def test_task_cards(card: TaskCard) -> None:
    code = load_code(card.code, Task)
    assert code.form == card.form
    assert all(find(DatasetCard, name) for name in card.datasets)


AS_READ = [(card, task) for card in cards(DatasetCard) for task in card.task or [""]]
"""Every data set as each task reads it, where it is of several."""


@pytest.mark.parametrize(("card", "task"), AS_READ, ids=[f"{card.id}-{task}" for card, task in AS_READ])
def test_dataset_cards(card: DatasetCard, task: str) -> None:
    card = card.for_task(task)
    if task:
        assert card.id in find(TaskCard, task).datasets
    named = set(card.splits)
    assert {split.of for split in card.splits.values()} <= named | {""}
    assert {file.split for file in card.file} <= named | {""}
    assert set(card.answer_splits) <= named
    assert set(card.recipe["train_splits"]) | set(card.recipe["evaluate_splits"]) <= named
    assert card.licence


@pytest.mark.parametrize("card", cards(SuiteCard), ids=lambda card: card.id)
def test_suites_plan_every_pair_they_name(card: SuiteCard) -> None:
    assert card.expect
    for task, dataset in card.datasets.items():
        for method in card_names(ModelCard):
            assert plan(method, task, suite=card.id).dataset.id == dataset


def test_quick_trains_whatever_is_run(tmp_path: Path) -> None:
    """A method or task of one's own has a budget too: nothing is ever scored untrained by accident."""
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    for method, task in (("lxmert", "vqa"), (str(tmp_path / "mine.py"), "vqa"), ("lxmert", str(tmp_path / "mine.py"))):
        made = plan(method, task).recipe
        assert made.epochs or made.steps


def test_a_run_without_a_budget_is_refused(tmp_path: Path) -> None:
    from vlbench.matrix import Matrix
    from vlbench.several import Setting

    made = Matrix(Setting("quick", {"steps": 0}, out=tmp_path, device="cpu", mirror=False))
    with pytest.raises(Misuse, match="no training budget"):
        made.add("lxmert", "vqa", "")


def test_later_layers_win_and_each_value_knows_its_origin() -> None:
    made = plan("lxmert", "vqa", suite="quick", typed={"rate": 0.5})
    assert made.recipe.rate == 0.5
    assert made.origins["rate"] == "typed"
    assert made.origins["batch"] == "suites/quick.toml"
    assert made.origins["regions"] == "registry/models/lxmert.toml"
    assert made.origins["accumulate"] == "default"
    assert made.origins["evaluate_splits"] == "registry/datasets/easy-vqa.toml"


def test_steps_and_epochs_replace_each_other() -> None:
    recipe, _ = resolve([("a", {"model": "m", "task": "t", "epochs": 3}), ("b", {"steps": 9})])
    assert (recipe.steps, recipe.epochs) == (9, 0)
    recipe, _ = resolve([("a", {"model": "m", "task": "t", "steps": 9}), ("b", {"epochs": 2})])
    assert (recipe.steps, recipe.epochs) == (0, 2)


def test_the_digest_is_of_the_content() -> None:
    one = Recipe(model="m", task="t")
    assert one.digest() == Recipe(model="m", task="t", log_every=7).digest()
    assert one.digest() != Recipe(model="m", task="t", rate=0.1).digest()
    assert len(one.digest()) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate", "wants key=value"),
        ("rat=3", "did you mean 'rate'"),
        ("=3", "wants key=value"),
    ],
)
def test_settings_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        parse_setting(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('sees = "regions"', 'seees = "regions"', "did you mean 'sees'"),
        ('sees = "regions"', 'sees = "sound"', "sees"),
        ("year = 2019", "yeer = 2019", "did you mean 'year'"),
        (
            "dropout = 0.1\ntext_length = 20\nregions",
            "dropuot = 0.1\ntext_length = 20\nregions",
            "did you mean 'dropout'",
        ),
        ('name = "LXMERT"', 'name = "LXMERT', "not TOML"),
    ],
)
def test_a_wrong_card_says_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = Path(find(ModelCard, "lxmert").path).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "lxmert.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BadData, match=message) as fault:
        read_card(ModelCard, path)
    assert str(path) in fault.value.wrong


def test_texts_are_cleaned_by_method_and_task_for_published_words_only() -> None:
    for method in ("albef", "blip"):
        asked = plan(method, "vqa", typed={"dataset": "vqa-v2"})
        assert cleaning(asked) == CLEANING[method]["questions"]
        for about, kind in [({"form": "write"}, "captions"), ({"texts": "captions"}, "captions")]:
            assert cleaning(asked._replace(task=asked.task.model_copy(update=about))) == CLEANING[method][kind]
        assert cleaning(plan(method, "vqa", typed={"dataset": "easy-vqa"})) is None  # its words are learned
    assert cleaning(plan("meter", "vqa", typed={"dataset": "vqa-v2"})) is None


def test_a_wrong_suite_key_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('about = "x"\n[all]\nepoch = 3\n', encoding="utf-8")
    with pytest.raises(BadData, match=r"mine\.toml: \[all\] 'epoch' .*did you mean 'epochs'"):
        read_card(SuiteCard, path)


@pytest.mark.parametrize("card", cards(ModelCard), ids=lambda card: card.id)
def test_recipes_of_a_size_or_a_data_set_are_of_one_there_is(card: ModelCard) -> None:
    for name in card.finetune:
        task, _, dataset = name.partition("@")[0].partition("/")
        assert not name.partition("@")[2] or name.partition("@")[2] in card.sizes
        assert not dataset or dataset in find(TaskCard, task).datasets


@pytest.mark.parametrize(
    ("method", "task", "typed", "wanted"),
    [
        ("beit3", "vqa", {"size": "base"}, {"rate": 3e-5, "drop_path": 0.1}),
        ("beit3", "vqa", {"size": "large"}, {"rate": 2e-5, "drop_path": 0.15}),
        ("beit3", "retrieval", {"dataset": "flickr30k"}, {"epochs": 20, "rate": 1e-4, "layer_decay": 0.65}),
        ("beit3", "retrieval", {"dataset": "flickr30k", "size": "large"}, {"rate": 5e-5, "layer_decay": 0.85}),
        ("beit3", "nocaps", {}, {"rate": 1e-5, "epochs": 10}),
        ("vlmo", "retrieval", {"dataset": "flickr30k"}, {"steps": 1500, "epochs": 0, "drop_path": 0.15}),
        ("vlmo", "retrieval", {"dataset": "coco-retrieval", "size": "large"}, {"steps": 3000, "rate": 2e-5}),
        ("vlmo", "nlvr2", {"size": "base_plus"}, {"rate": 3e-5, "drop_path": 0.2}),
        ("mcan", "vqa", {"dataset": "vqa-v2", "size": "large"}, {"rate": 5e-5, "accumulate": 2}),
        ("blip", "captioning", {"size": "large"}, {"rate": 2e-6}),
    ],
)
def test_published_recipes_by_size_and_data_set(
    method: str, task: str, typed: dict[str, object], wanted: dict[str, float]
) -> None:
    made = plan(method, task, suite="paper", typed=typed).recipe.model_dump()
    assert {key: made[key] for key in wanted} == wanted


def test_all_keys_that_a_card_lacks_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "birds.toml"
    path.write_text('name = "birds"\nlayout = "lines"\n')
    with pytest.raises(BadData, match=r"birds\.toml: these keys are required and missing: about, home, licence"):
        read_card(CorpusCard, path)


def test_blips_rate_of_pretraining_falls_to_nine_tenths_after_every_epoch() -> None:
    recipe = plan_stage("blip", "", suite="paper").recipe
    steps, per_epoch = 97_000, 4_850
    assert recipe.epochs == steps / per_epoch
    for epoch in range(20):
        for step in (epoch * per_epoch + 1, (epoch + 1) * per_epoch - 1):
            wanted = min(step / (recipe.warmup * steps), 1.0) if epoch == 0 else 0.9**epoch
            assert share_of_rate(step, steps, recipe) == pytest.approx(wanted)
