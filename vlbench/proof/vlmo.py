"""How the recorded cases of VLMo (microsoft/unilm, folder vlmo) are rerun."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.learner import Learner
from vlbench.models.vlmo import Draws, VLMo
from vlbench.nn.heads import Head
from vlbench.nn.masking import IGNORED, MaskedWords, negative_weights
from vlbench.nn.objectives import contrastive_loss, masked_lm_loss
from vlbench.nn.reader_heads import PooledAnswerHead
from vlbench.proof.parity import Case, load_strictly
from vlbench.types import Batch, Form, Image, Text

FORMS: dict[str, Form] = {"vqa": "classify", "nlvr2": "compare", "irtr": "match"}
UNUSED = "text_embeddings.position_embeddings.weight"
"""The authors build it where distances are biased too, and never add it."""


def _learner(case: Case, head: Head | None = None) -> tuple[Learner, VLMo]:
    config, tasks = case.config, case.config["loss_names"]
    placed = not config["need_relative_position_embed"]
    model = VLMo(
        vocabulary=config["vocab_size"],
        image_size=config["image_size"],
        patch=config["patch_size"],
        width=config["embed_dim"],
        heads=config["num_heads"],
        inner=int(config["embed_dim"] * config["mlp_ratio"]),
        layers=config["depth"],
        fusion_layers=config["depth"] - config["vlffn_start_layer_index"],
        distances=config["max_text_len_of_initckpt"],
        positions=config["max_text_len"] if placed else 0,
        layer_scale=config["layer_scale_init_values"] or 0.0,
        form=next((form for task, form in FORMS.items() if task in tasks), "classify"),
        pretraining="itc" in tasks,
    )
    learner = Learner(model, head)
    weights = {name: tensor for name, tensor in case.weights.items() if placed or name != UNUSED}
    load_strictly(learner, weights, "vlmo")
    return learner.eval(), model


def _text(case: Case, suffix: str = "") -> Text:
    return Text(case.inputs[f"text_ids{suffix}"], case.inputs["text_masks"].bool())


def _recorded(model: VLMo) -> list[Tensor]:
    """Collect what each layer makes from here on, in the order in which the layers run."""
    states: list[Tensor] = []

    def keep(layer: nn.Module, given: Any, made: Tensor) -> None:
        states.append(made)

    for layer in model.trunk.layers:
        layer.register_forward_hook(keep)
    return states


def encode(case: Case) -> dict[str, Tensor]:
    """Rerun an image alone, a text alone, and both together, layer by layer."""
    _, model = _learner(case)
    image, text, layers = Image(case.inputs["image"]), _text(case), len(model.trunk.layers)
    main, branch = model.embed(image, text, branch=True)
    states = _recorded(model)
    shown, _ = model.trunk.alone(model.embed_image(image), 0)
    said, _ = model.trunk.alone(model.embed_text(text), text.tokens.shape[1], text.mask)
    fused = model.encode(image, text)
    made = {
        "image_only.feats": shown,
        "image_only.cls_feats": main.image,
        "image_only.cls_vlffn_feats": branch.image,
        "image_only.raw_cls_feats": states[layers - 1][:, 0],
        "text_only.feats": said,
        "text_only.cls_feats": main.text,
        "text_only.cls_vlffn_feats": branch.text,
        "text_only.raw_cls_feats": states[2 * layers - 1][:, 0],
        "fused.text_feats": fused.text,
        "fused.image_feats": fused.image,
        "fused.cls_feats": fused.pooled,
        "fused.raw_cls_feats": fused.text[:, 0],
    }
    made |= {f"fused.hidden_{number}": hidden for number, hidden in enumerate(states[2 * layers :])}
    if (bias := model.trunk.bias) is not None:
        words = text.tokens.shape[1]
        made["relative_position_index"] = bias.rows(0, patches=True)
        made["text_relative_position_index"] = bias.rows(words, patches=False)
        made["text_imag_relative_position_index"] = bias.rows(words, patches=True)
    return made


def pretrain(case: Case) -> dict[str, Tensor]:
    """Rerun the objectives on given hidden words and negatives, and the stage on text alone."""
    _, model = _learner(case)
    image, text, inputs = Image(case.inputs["image"]), _text(case), case.inputs
    labels = inputs["text_labels_mlm"].where(inputs["text_labels_mlm"] >= 0, IGNORED)
    words = MaskedWords(_text(case, "_mlm"), labels)
    draws = Draws(words, inputs["itm_neg_image_index"], inputs["itm_neg_text_index"])
    main, branch = model.embed(image, text, branch=True)
    logits, branch_logits = model.contrast.scores(main), model.branch_contrast.scores(branch)
    same = torch.eye(len(logits), dtype=torch.bool)
    losses = {
        "contrastive": model.contrast.loss(main, same),
        "branch_contrastive": model.branch_contrast.loss(branch, same),
        **model.objectives(image, text, draws),
    }
    weights = find(ModelCard, "vlmo").pretrain["losses"]
    weighed = {name: weights[name] * loss for name, loss in losses.items()}
    text_logits = model.text_logits(words.text)
    return {
        "mlm_loss": weighed["masked_lm"],
        "mlm_loss_unscaled": losses["masked_lm"],
        "mlm_logits": model.word_logits(model.encode(image, words.text).text),
        "itc_loss": weighed["contrastive"] + weighed["branch_contrastive"],
        "itc_i2t_loss": contrastive_loss(logits),
        "itc_t2i_loss": contrastive_loss(logits.T),
        "itc_vl_i2t_loss": contrastive_loss(branch_logits),
        "itc_vl_t2i_loss": contrastive_loss(branch_logits.T),
        "itc_i2t_logits": logits,
        "itc_t2i_logits": logits.T,
        "itc_logit_scale": model.contrast.log_scale.exp(),
        "itc_logit_vl_scale": model.branch_contrast.log_scale.exp(),
        "itm_weights_t2i": negative_weights(logits.T, same),
        "itm_weights_i2t": negative_weights(logits, same),
        "itm_loss": weighed["matching"],
        "itm_logits": model.match(image, text, draws),
        "itm_labels": (torch.arange(3 * len(logits)) < len(logits)).float(),
        "total_loss": torch.stack(list(weighed.values())).sum(),
        "textmlm_loss": masked_lm_loss(text_logits, labels),
        "textmlm_logits": text_logits,
    }


def answering(case: Case) -> dict[str, Tensor]:
    """Rerun question answering."""
    head = PooledAnswerHead(case.config["embed_dim"], case.config["vqav2_label_size"], images=1)
    learner, model = _learner(case, head)
    batch = Batch((), Image(case.inputs["image"]), _text(case), case.inputs["vqa_targets"])
    return {
        "vqa_logits": head.scores(model, batch),
        "vqa_loss": learner(batch)["answer"],
        "cls_feats": model.encode(batch.image, batch.text).pooled,
    }


def comparing(case: Case) -> dict[str, Tensor]:
    """Rerun NLVR2: two images with one sentence."""
    head = PooledAnswerHead(case.config["embed_dim"], case.outputs["nlvr2_logits"].shape[1], images=2)
    learner, model = _learner(case, head)
    images = torch.stack([case.inputs["image_0"], case.inputs["image_1"]], dim=1).flatten(0, 1)
    text = _text(case)._replace(rows=torch.arange(len(images) // 2).repeat_interleave(2))
    batch = Batch((), Image(images), text, case.inputs["answers"], (2, 1))
    pooled = model.encode(batch.image, batch.text).pooled
    return {
        "nlvr2_logits": head.scores(model, batch),
        "nlvr2_loss": learner(batch)["answer"],
        "cls_feats_0": pooled[::2],
        "cls_feats_1": pooled[1::2],
    }


def retrieval(case: Case) -> dict[str, Tensor]:
    """Rerun fine-tuning for retrieval, by contrast alone."""
    _, model = _learner(case)
    batch = Batch((), Image(case.inputs["image"]), _text(case))
    made = model.embed(batch.image, batch.text)[0]
    logits = model.contrast.scores(made)
    head = model.head("match", 0)
    given = [one.answer for one in head.answers(model, batch)]
    images, texts = (torch.stack([torch.from_numpy(getattr(g, part)) for g in given]) for part in ("image", "text"))
    return {
        "irtr_loss": head.losses(model, batch)["contrastive"],
        "irtr_i2t_loss": contrastive_loss(logits),
        "irtr_t2i_loss": contrastive_loss(logits.T),
        "irtr_i2t_logits": logits,
        "irtr_t2i_logits": logits.T,
        "logit_scale": model.contrast.log_scale.exp(),
        "image_cls_feats": made.image,
        "text_cls_feats": made.text,
        "scores": images @ texts.T,
    }


CASES = {
    "encode": encode,
    "encode_base_plus": encode,
    "pretrain": pretrain,
    "vqa": answering,
    "nlvr2": comparing,
    "retrieval": retrieval,
}
