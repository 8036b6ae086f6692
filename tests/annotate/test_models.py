"""The adapters of transformers' specialists, on small random models of the real classes in folders as checkpoints have them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from sv_jax.annotate import models
from sv_jax.annotate.specialists import DEPTHS, DETECTORS, TRACKERS, Boxes, Clip, choose
from sv_jax.errors import UserError

SIZE = (60, 84)


@pytest.fixture(scope="module")
def clip() -> Clip:
    frames = np.random.default_rng(0).integers(0, 255, (3, *SIZE, 3), np.uint8)
    return Clip("clip", frames, 2.0, SIZE, np.array([[90.0, 0, 42], [0, 90, 30], [0, 0, 1]]))


def save(model, folder, *processors) -> str:
    for part in (model, *processors):
        part.save_pretrained(folder)
    return str(folder)


def depth_anything(folder, kind: str) -> str:
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14, reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"], apply_layernorm=True,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=8, depth_estimation_type=kind, max_depth=20,
    )  # fmt: skip
    processor = transformers.DPTImageProcessorPil(size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14)
    return save(transformers.DepthAnythingForDepthEstimation(config), folder, processor)


@pytest.mark.parametrize(("kind", "gives"), [("metric", "metric"), ("relative", "disparity")])
def test_depth_anything_gives_what_the_pipeline_of_transformers_gives(clip, tmp_path, kind, gives):
    from PIL import Image

    torch.manual_seed(0)
    where = depth_anything(tmp_path, kind)
    got = choose("depth", f"depth_anything:{where}", DEPTHS)(clip)
    assert got.kind == gives and got.values.shape == clip.frames.shape[:3] and got.focal is None
    pipeline = transformers.pipeline("depth-estimation", where)
    for frame, values in zip(clip.frames, got.values, strict=True):
        np.testing.assert_allclose(values, pipeline(Image.fromarray(frame))["predicted_depth"].numpy(), rtol=1e-5, atol=1e-5)


def depth_pro(folder, fov: bool) -> str:
    encoder = {
        "model_type": "dinov2",
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "patch_size": 4,
        "image_size": 16,
    }
    config = transformers.DepthProConfig(
        patch_size=16, fusion_hidden_size=16, intermediate_hook_ids=[1, 0], intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0], scaled_images_overlap_ratios=[0.0, 0.25], scaled_images_feature_dims=[8, 8],
        merge_padding_value=1, use_fov_model=fov,
        image_model_config=dict(encoder), patch_model_config=dict(encoder), fov_model_config=dict(encoder),
    )  # fmt: skip
    return save(transformers.DepthProForDepthEstimation(config), folder)


def test_depth_pro_takes_the_focal_length_that_is_known_or_its_own(clip, tmp_path):
    torch.manual_seed(0)
    adapter = models.DepthPro(depth_pro(tmp_path, fov=True))
    torch.nn.init.constant_(adapter._model.head.layers[-2].bias, 0.5)  # a random head gives no depth at all in most pixels
    torch.nn.init.constant_([m for m in adapter._model.fov_model.modules() if isinstance(m, torch.nn.Conv2d)][-1].bias, 50.0)
    with torch.no_grad():
        pixels = models._pixels(clip.frames[:1], 32, *models.HALF, antialias=False)
        out = adapter._model(pixels)
    known = adapter(clip)
    assert known.focal == 90 and known.values.shape == clip.frames.shape[:3]
    inverse = torch.nn.functional.interpolate(out.predicted_depth[:, None], SIZE, mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(known.values[0], 1 / np.clip(inverse * SIZE[1] / 90, 1e-4, 1e4), rtol=1e-5)
    alone = Clip("clip", clip.frames[:1], 2.0, SIZE)
    assert adapter(alone).focal == pytest.approx(SIZE[1] / 2 / np.tan(np.radians(out.field_of_view.item()) / 2), rel=1e-4)


def test_depth_pro_without_any_focal_length_says_so(clip, tmp_path):
    adapter = models.DepthPro(depth_pro(tmp_path, fov=False))
    with pytest.raises(UserError, match="depth_pro: clip: the checkpoint estimates no field of view; give --fov or --cameras"):
        adapter(Clip("clip", clip.frames, 2.0, SIZE))


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "red", "mug", "book", "?"]
    swin = transformers.SwinConfig(
        window_size=7, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], image_size=64, out_indices=[2, 3, 4]
    )
    bert = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=len(words))
    config = transformers.GroundingDinoConfig(
        backbone_config=swin, text_config=bert, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=8, decoder_ffn_dim=8, num_queries=6, max_text_len=16,
    )  # fmt: skip
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    images = transformers.GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    return save(transformers.GroundingDinoForObjectDetection(config), folder, transformers.GroundingDinoProcessor(images, tokenizer))


def test_grounding_dino_gives_boxes_in_pixels_with_one_of_the_phrases(clip, detector):
    boxes = models.GroundingDino(detector, threshold=0.0, text_threshold=0.0)(clip, ("Red mug", "book"))
    count = len(boxes.phrases)
    assert 1 <= count <= 6 and boxes.xyxy.shape == (count, 4) and boxes.score.shape == (count,)
    assert set(boxes.phrases) <= {"Red mug", "book"}
    assert (boxes.xyxy >= 0).all() and (boxes.xyxy <= [84, 60, 84, 60]).all() and (boxes.xyxy[:, :2] <= boxes.xyxy[:, 2:]).all()
    none = choose("detect", f"grounding_dino:{detector}", DETECTORS)
    none._thresholds["threshold"] = 1.0
    assert none(clip, ("book",)).phrases == ()
    with pytest.raises(UserError, match="grounding_dino: no phrases"):
        none(clip, ())


def test_an_object_that_was_found_twice_is_one_box():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [5, 0, 15, 10], [50, 50, 60, 60]], np.float64)
    assert models.distinct(boxes, np.array([0.5, 0.9, 0.6, 0.4])) == [1, 2, 3]
    assert models.distinct(boxes[:0], np.zeros(0)) == []


def test_a_label_takes_the_phrase_that_shares_its_words():
    phrases = ("red mug", "blue coffee mug", "book")
    assert [models._nearest(label, phrases) for label in ("red mug", "coffee", "book book", "lamp")] == [*phrases, None]


@pytest.fixture(scope="module")
def tracker(tmp_path_factory) -> str:
    torch.manual_seed(0)
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, image_size=[128, 128], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[8, 4, 8, 4], global_attention_blocks=[3],
    )  # fmt: skip
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=128,
    )
    prompts = {"hidden_size": 128, "image_size": 128, "patch_size": 16, "mask_input_channels": 8}
    decoder = {"hidden_size": 128, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    config = transformers.Sam2VideoConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder, image_size=128, memory_attention_hidden_size=128,
        memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=64, memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128, memory_fuser_num_layers=1,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32,
    )  # fmt: skip
    return save(transformers.Sam2VideoModel(config), tmp_path_factory.mktemp("sam2"))


def test_sam2_gives_ids_of_the_boxes_in_every_frame(clip, tracker):
    boxes = Boxes(np.array([[4.0, 6, 40, 50], [30.0, 10, 80, 55]]), np.ones(2), ("red mug", "book"))
    two = Clip("clip", clip.frames[:2], 2.0, SIZE)
    ids = choose("track", f"sam2:{tracker}", TRACKERS)(two, boxes)
    assert ids.shape == two.frames.shape[:3] and ids.dtype == np.uint8 and set(np.unique(ids)) <= {0, 1, 2}


def test_a_place_that_holds_no_such_model_is_named_in_one_line(tmp_path, detector):
    for where, message in ((str(tmp_path / "no"), "no such folder"), (str(tmp_path), "specialist .*")):
        with pytest.raises(UserError, match=message) as error:
            models.DepthAnything(where)
        assert "\n" not in str(error.value)
