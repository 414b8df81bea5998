"""``vlbench capfilt``: train captioner and filter, judge a corpus, write what is left of it and what was added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vlbench import __version__
from vlbench.capfilt.decisions import DECISIONS, tally
from vlbench.capfilt.folder import Place
from vlbench.capfilt.planning import (
    COMMAND,
    EVEN,
    Wish,
    batch_of,
    check_clean,
    find_noisy,
    folder_of,
    method_of,
    plan_stages,
    truth_of,
)
from vlbench.capfilt.writing import write_corpora
from vlbench.cards import CorpusCard
from vlbench.chain import Chain, announce
from vlbench.plan import PRETRAINED, Plan
from vlbench.several import Setting, Several
from vlbench.stages import stages_of

if TYPE_CHECKING:
    from vlbench.capfilt.judging import Judge
    from vlbench.corpora.corpus import Corpus
    from vlbench.prepare import Options
    from vlbench.record import RunRecord
    from vlbench.session import Made


class Noisy(NamedTuple):
    """The corpus that is judged."""

    card: CorpusCard
    """With the folder it lies in."""
    corpus: Corpus
    folders: list[Path]
    """Of its images."""

    def made_of(self) -> dict[str, object]:
        """Return what it is, by hash."""
        files = {f"corpus {name}": found for name, found in self.corpus.hashes().items()}
        return {**files, "records": len(self.corpus)}


class CapFilt(Several):
    """One corpus, bootstrapped."""

    def __init__(self, setting: Setting, wish: Wish) -> None:
        super().__init__(setting._replace(fresh=False))  # the runs it goes on from are found again
        self.anew, self.wish = setting.fresh, wish
        self.card_of_noisy = find_noisy(wish.noisy, self.data)
        self.place = Place(folder_of(wish, self.card_of_noisy, self.data))
        self.plans = plan_stages(wish, wish.start, self.out)
        self.batch = batch_of(wish, self.plans[0])
        check_clean(self.plans[0].recipe.corpora, self.data)

    def carry_out(self) -> int:
        """Make all that is not there yet; print what came of it."""
        with self.place.locked():
            noisy = self._open()
            if not self.anew:
                self.place.check(noisy.made_of())
            start = self._start()
            self.plans = plan_stages(self.wish, start, self.out)
            made = [self._train(planned) for planned in self.plans]
            about = self._bootstrap(noisy, made, start)
        self._show(about, made)
        return 0

    def _open(self) -> Noisy:
        from vlbench.corpora.opening import image_folders, open_corpus
        from vlbench.made import open_made

        with self.live() as options:
            card = open_made(self.card_of_noisy, self.data, progress=options.progress)
            folders = image_folders(card, self.data)
            return Noisy(card, open_corpus(card, self.data, progress=options.progress), folders)

    def _start(self) -> str:
        """Return what both stages begin from; the suite's own pre-training is made first where it is not there."""
        if self.wish.start != PRETRAINED:
            return self.wish.start
        method, _ = method_of(PRETRAINED, self.out)
        chain = Chain(method, self._of_start(), stages_of(method))
        chain.check(self.suite)
        return f"run:{chain.carry_out(self, before=True)[-1].record.id}"

    def _of_start(self) -> dict[str, Any]:
        """Return what is typed of the suite's own pre-training: of several variants, the one others are set against."""
        variant = str(self.typed.get("variant", "")) or self.card.against
        kept = {key: self.typed[key] for key in ("size", "seed", "changes") if key in self.typed}
        return kept | ({"variant": variant} if variant else {})

    def _train(self, planned: Plan) -> Made:
        from vlbench.pretrain import pretrain

        with self.live() as options:
            announce(planned, self)
            return pretrain(planned, options)

    def _bootstrap(self, noisy: Noisy, made: list[Made], start: str) -> dict[str, Any]:
        """Judge the corpus and write what comes of it; return what ``capfilt.json`` says."""
        from vlbench.capfilt.judging import LONGEST, REPETITION_PENALTY, SHARE

        with self.live() as options:
            judge = self._judge(noisy, made, options)
            recipe = judge.captioner.plan.recipe
            total = min(len(noisy.corpus), recipe.limit or len(noisy.corpus))
            settings = {
                "records judged": total,
                "seed": recipe.seed,
                "share of the nucleus": SHARE,
                "repetition penalty": REPETITION_PENALTY,
                "longest caption": LONGEST,
                "keep above": self.wish.keep_above,
            }
            weights = {name: one.record.weights for name, one in zip(("captioner", "filter"), made, strict=True)}
            made_of = {**noisy.made_of(), **weights, **settings}
            if (finished := self.place.begin(made_of, fresh=self.anew)) is not None:
                options.say("this corpus was made before; --fresh makes it anew")
                return finished
            self._judge_all(judge, noisy, total, options)
        runs = {"start": start, "captioner": made[0].record.id, "filter": made[1].record.id}
        return self._write(noisy, {"runs": runs, "made_of": made_of}, whole=total == len(noisy.corpus))

    def _judge(self, noisy: Noisy, made: list[Made], options: Options) -> Judge:
        from vlbench.capfilt.judging import Judge, open_trained
        from vlbench.engine.devices import open_device, use_threads

        accelerator = open_device(self.device, made[0].record.recipe.precision)
        captioner, judging = (
            open_trained(planned, one.folder, noisy.corpus, noisy.card, options)
            for planned, one in zip(self.plans, made, strict=True)
        )
        use_threads(captioner.learner.size() + judging.learner.size())
        return Judge(captioner, judging, accelerator, self.wish.keep_above)

    def _judge_all(self, judge: Judge, noisy: Noisy, total: int, options: Options) -> None:
        from vlbench.capfilt.judging import Parts, judge_all
        from vlbench.session import interruptible

        recipe = judge.captioner.plan.recipe
        parts = Parts(
            noisy.corpus,
            noisy.folders,
            (judge.captioner.images, judge.filter.images),
            batch=self.batch,
            total=total,
            seed=recipe.seed,
        )
        with interruptible() as keep_going:
            judge_all(
                judge,
                parts,
                self.place.work,
                workers=recipe.workers,
                progress=options.progress,
                keep_going=keep_going,
            )

    def _write(self, noisy: Noisy, about: dict[str, Any], *, whole: bool) -> dict[str, Any]:
        work, card = self.place.work, noisy.card
        counted = tally(work / DECISIONS, truth_of(card, self.data), whole=whole)
        home = f"vlbench {COMMAND} {self.wish.noisy} --start {about['runs']['start']}"
        home += f" --keep-above {self.wish.keep_above:g}" if self.wish.keep_above != EVEN else ""
        left = write_corpora(work, self.place.folder, card, self.data, home)
        document = {
            "format": 1,
            "corpus": card.id,
            "version": __version__,
            **about,
            **counted.counts(),
            "images_left": left,
        }
        self.place.finish(document)
        return document

    def _show(self, about: dict[str, Any], made: list[Made]) -> None:
        """Print what came of it, as one JSON document or as lines."""
        if self.as_json:
            print(json.dumps({"folder": str(self.place.folder), **about}, indent=1, ensure_ascii=False))
            return
        lost = about["images"]
        if lost["unreadable"]:
            self.messages.print(
                f"{lost['unreadable']:,} images cannot be read: {self.place.folder / DECISIONS} names them",
                highlight=False,
                markup=False,
            )
        for key, value in summary(about, self.place.folder, made[0].record).items():
            self.console.print(f"{key:>10}  {value}", highlight=False, markup=False, soft_wrap=True)

    def preview(self) -> int:
        """Say what would be done; change nothing."""
        keys = ("corpora", "losses", "steps", "epochs", "batch", "rate", "size", "start")
        stages = []
        for planned in self.plans:
            values = planned.recipe.model_dump(mode="json")
            stages.append(
                {"method": planned.model.id, "stage": planned.recipe.stage, **{key: values[key] for key in keys}}
            )
        found = {"corpus": self.card_of_noisy.id, "folder": str(self.place.folder), "stages": stages}
        if self.as_json:
            print(json.dumps(found, indent=1))
            return 0
        for one in stages:
            for key, value in one.items():
                self.console.print(f"{key:>10}  {value}", highlight=False, markup=False, soft_wrap=True)
            self.console.print()
        self.console.print(f"then every image of {found['corpus']} is judged", highlight=False, markup=False)
        self.console.print(f"{'into':>10}  {found['folder']}", highlight=False, markup=False, soft_wrap=True)
        return 0


def summary(about: dict[str, Any], folder: Path, captioner: RunRecord) -> dict[str, str]:
    """Say in a few lines what came of it, and how to pre-train on it with what the captioner learned from."""
    web, synthetic = about["web"], about["synthetic"]
    lines = {
        "judged": f"{about['images']['judged']:,} images of {about['corpus']}",
        "web": f"{web['kept']:,} of {web['texts']:,} kept ({_percent(web['share_kept'])})",
        "synthetic": f"{synthetic['kept']:,} of {synthetic['texts']:,} kept ({_percent(synthetic['share_kept'])})",
    }
    if "precision" in web:
        lines["filter"] = (
            f"of the kept web texts {_percent(web['precision'])} are right, of all {_percent(web['share_right'])}; "
            f"of the right ones {_percent(web['recall'])} are kept"
        )
    lines["corpus"] = (
        f"{folder / 'corpus.toml'} ({about['images_left']['corpus']:,} images); web texts only: filtered.toml"
    )
    corpora = ",".join((*captioner.recipe.corpora, str(folder / "corpus.toml")))
    lines["go on"] = f"vlbench pretrain {captioner.method} --set corpora={corpora}"
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f} %"
