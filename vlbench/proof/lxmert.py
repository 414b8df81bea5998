"""How the recorded cases of LXMERT (airsplay/lxmert, and transformers' port) are rerun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vlbench.learner import Learner
from vlbench.models.lxmert import LXMERT, Targets
from vlbench.nn.heads import LabelHead
from vlbench.nn.masking import IGNORED
from vlbench.nn.objectives import label_loss
from vlbench.proof.parity import Case, load_strictly
from vlbench.types import Batch, Image, RegionLabels, Text


def _model(config: Mapping[str, Any], *, pretraining: bool = False) -> LXMERT:
    return LXMERT(
        vocabulary=config["vocab_size"],
        feature_dim=config["visual_feat_dim"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        inner=config["intermediate_size"],
        text_layers=config["l_layers"],
        image_layers=config["r_layers"],
        cross_layers=config["x_layers"],
        positions=config["max_position_embeddings"],
        segments=config.get("type_vocab_size", 2),
        objects=config.get("num_object_labels", 1),
        attributes=config.get("num_attr_labels", 1),
        answers=config.get("num_answers", config.get("num_qa_labels", 1)),
        pretraining=pretraining,
    )


def _learner(case: Case, *, head: LabelHead | None = None, pretraining: bool = False) -> Learner:
    learner = Learner(_model(case.config, pretraining=pretraining), head)
    load_strictly(learner, case.weights, "lxmert")
    return learner.eval()


def _text(inputs: Mapping[str, Tensor]) -> Text:
    return Text(inputs["input_ids"], inputs["attention_mask"].bool(), segments=inputs["token_type_ids"])


def _image(inputs: Mapping[str, Tensor], *, masked: bool = False) -> Image:
    mask = inputs["visual_attention_mask"].bool() if masked else None
    return Image(inputs["visual_feats"], inputs["visual_pos"], mask)


def backbone(case: Case) -> dict[str, Tensor]:
    """Rerun the encoder with and without a mask over regions, and its parts."""
    model = _learner(case).model
    assert isinstance(model, LXMERT)
    inputs, text = case.inputs, _text(case.inputs)
    words = model.text_embedding(text)
    regions = model.region_embedding(_image(inputs))
    made = {
        "lang_embedding": words,
        "visn_embedding": regions,
        "lang_after_l_layers": model.text_layers(words, text.mask),
        "visn_after_r_layers": model.image_layers(regions, _image(inputs, masked=True).mask),
    }
    for suffix, masked in (("", True), ("_no_visual_mask", False)):
        states = model.encode(_image(inputs, masked=masked), text)
        made |= {
            f"language_output{suffix}": states.text,
            f"vision_output{suffix}": states.image,
            f"pooled_output{suffix}": states.pooled,
        }
    return made


def pretrain(case: Case) -> dict[str, Tensor]:
    """Rerun the five objectives on given masks."""
    inputs = case.inputs
    losses, logits = _objectives(
        case, inputs["masked_lm_labels"], inputs["ans"], 1 / case.config.get("visual_loss_weight", 1 / 0.15)
    )
    return {
        "total_loss": torch.stack(list(losses.values())).sum(),
        "mlm_logits": logits["words"],
        "matched_logits": logits["matching"],
        "obj_logits": logits["objects"],
        "attr_logits": logits["attributes"],
        "feat_pred": logits["features"],
        "answer_logits": logits["answers"],
        "loss_mask_lm": losses["masked_lm"],
        "loss_matched": losses["matching"],
        "loss_obj": losses["region_objects"],
        "loss_attr": losses["region_attributes"],
        "loss_feat": losses["region_features"],
        "loss_qa": losses["image_qa"],
    }


def _objectives(
    case: Case, words: Tensor, answers: Tensor, rate: float, *, masked: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model = _learner(case, pretraining=True).model
    assert isinstance(model, LXMERT)
    inputs = case.inputs
    labels = RegionLabels(inputs["obj_labels"], inputs["obj_conf"], inputs["attr_labels"], inputs["attr_conf"])
    labels = labels.map(lambda part: part if part.is_floating_point() else part.where(part >= 0, IGNORED))
    targets = Targets(words, inputs["feat_target"], inputs["feat_mask"], labels, inputs["matched_label"], answers)
    states = model.encode(_image(inputs, masked=masked), _text(inputs))
    regions = model.region_head(states.image)
    logits = {
        "words": model.word_logits(states.text),
        "matching": model.matching_head(states.pooled),
        "objects": model.object_output(regions),
        "attributes": model.attribute_output(regions),
        "features": model.feature_output(regions),
        "answers": model.answer_head(states.pooled),
        "language": states.text,
        "vision": states.image,
        "pooled": states.pooled,
    }
    return model.objectives(states, targets, region_rate=rate), logits


def answering(case: Case) -> dict[str, Tensor]:
    """Rerun question answering (VQA, GQA): one image, soft scores or labels."""
    return _fine_tuned(case, images=1, image=_image(case.inputs))


def comparing(case: Case) -> dict[str, Tensor]:
    """Rerun NLVR2: two images with one sentence."""
    features, boxes = case.inputs["visual_feats"].flatten(0, 1), case.inputs["visual_pos"].flatten(0, 1)
    return _fine_tuned(case, images=2, image=Image(features, boxes))


def _fine_tuned(case: Case, *, images: int, image: Image) -> dict[str, Tensor]:
    head = LabelHead(case.config["hidden_size"], case.config["num_answers"], images=images)
    learner = _learner(case, head=head)
    rows = torch.arange(len(case.inputs["input_ids"])).repeat_interleave(images) if images > 1 else None
    text = _text(case.inputs)._replace(rows=rows)
    batch = Batch((), image, text, case.inputs["target"], (images, 1))
    scores = head.scores(learner.model, batch)
    pooled = learner.model.encode(image, text).pooled
    made = {"logits": scores, "loss": head.loss(scores, batch), "pooled_output": pooled}
    if "loss_mce" in case.outputs:  # the authors' --mceLoss: the best answer as a label
        made["loss_mce"] = label_loss(scores, case.inputs["target"].argmax(-1)) * scores.shape[-1]
    return made


def port(case: Case) -> dict[str, Tensor]:
    """Rerun transformers' port: its labels are ignored at -100, its region losses multiplied by another number."""
    ignored = {name: case.inputs[name].where(case.inputs[name] != -100, IGNORED) for name in ("labels", "ans")}
    masked = "visual_attention_mask" in case.inputs
    losses, logits = _objectives(
        case, ignored["labels"], ignored["ans"], 1 / case.config.get("visual_loss_normalizer", 6.67), masked=masked
    )
    visual = losses["region_objects"] + losses["region_attributes"] + losses["region_features"]
    return {
        "language_output": logits["language"],
        "vision_output": logits["vision"],
        "pooled_output": logits["pooled"],
        "prediction_logits": logits["words"],
        "cross_relationship_score": logits["matching"],
        "question_answering_score": logits["answers"],
        "total_loss": losses["masked_lm"] + losses["matching"] + losses["image_qa"] + visual,
        "obj_logits": logits["objects"],
        "attr_logits": logits["attributes"],
        "feat_pred": logits["features"],
        "loss_mask_lm": losses["masked_lm"],
        "loss_matched": losses["matching"],
        "loss_qa": losses["image_qa"],
        "loss_visual": visual,
        "vqa_score": logits["answers"],
        "vqa_loss": label_loss(logits["answers"], case.inputs["vqa_labels"]),
    }


CASES = {
    "backbone": backbone,
    "pretrain": pretrain,
    "vqa": answering,
    "gqa": answering,
    "nlvr2": comparing,
    "hf": port,
}
