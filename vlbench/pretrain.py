"""One stage of pre-training, from corpora to record: what ``vlbench pretrain`` does with a plan (stages.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator

from vlbench.cards import CorpusCard
from vlbench.catalog import find
from vlbench.corpora.feed import CorpusFeed, Lost
from vlbench.corpora.images import CorpusPixels, CorpusRegions
from vlbench.corpora.mixture import Mixture
from vlbench.corpora.opening import open_corpus
from vlbench.data.batches import Collator, Share
from vlbench.data.images import ImageStore
from vlbench.data.opening import open_stored, open_words
from vlbench.data.words import TRAINERS, Words
from vlbench.engine import checkpoint
from vlbench.engine.devices import describe, open_device, seed_everything, use_threads
from vlbench.engine.train import STATE, planned_steps
from vlbench.learner import Learner, build_model
from vlbench.made import placed_corpus
from vlbench.models.base import Model
from vlbench.paths import sha256, write_text
from vlbench.plan import Plan
from vlbench.plugins import load_code
from vlbench.prepare import PIXELS, Options, starting_point, transforms
from vlbench.record import Basis, RunRecord
from vlbench.runfolder import RECORD, WEIGHTS, WORDS, Begun, begin, changes, finished, find_run, folder_of, locked
from vlbench.session import Made, logged, note, throughput, train_on
from vlbench.tracking import RunLog
from vlbench.types import BadData, Misuse

MOST_TEXTS = 200_000
"""So many texts of the corpora a vocabulary is learned from."""


class OpenedCorpora(NamedTuple):
    """What a stage of pre-training works on."""

    mixture: Mixture
    cards: tuple[CorpusCard, ...]
    images: ImageStore
    words: Words
    answers: tuple[str, ...]
    """Of questions among the texts, in order; empty where there are none."""
    collate: Collator


def pretrain(plan: Plan, options: Options) -> Made:
    """Carry out one stage, going on where an earlier run of it stopped."""
    accelerator = open_device(options.device, plan.recipe.precision)
    folder = folder_of(plan, options.out, fresh=options.fresh)
    with locked(folder):
        if record := finished(folder):
            return Made(record, folder, False)
        seed_everything(plan.recipe.seed)
        opened = open_corpora(plan, options, folder)
        begun = begin(folder, plan, inputs_of(plan, opened, options))
        learner = build_pretraining(plan, opened, options)
        use_threads(learner.size())
        with logged(folder, plan, begun, learner, options) as log:
            record = _carry_out(plan, opened, learner, accelerator, begun, folder, options, log)
            record.write(folder / RECORD)
            (folder / "checkpoint" / STATE).unlink(missing_ok=True)
    return Made(record, folder, True)
