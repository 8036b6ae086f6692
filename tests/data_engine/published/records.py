"""Made-up records in the layouts of the published files, with pictures of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

THINK = "\nPlease provide the thinking process within the <think> </think> tags."
OPENING = "Please think about this question as if you were a human pondering deeply.\n<video>\nQuestion: "
FRAMES = 5
HEIGHT, WIDTH = 60, 81  # odd, so that pixels move when a frame is stored
SCENES = ("uco3d_frames/mug_1", "DL3DV_frames/0a1b/images_8", "wildrgbd_frames/ball/7")


def frames_of(scene: str) -> list[str]:
    return [f"{scene}/{i:04d}.png" for i in range(FRAMES)]


def make_media(root: Path) -> Path:
    """Frames of every scene, and a label map, a bool mask and planes of masks."""
    rng = np.random.default_rng(0)
    for scene in SCENES:
        (root / scene).mkdir(parents=True)
        for name in frames_of(scene):
            Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(root / name)
    (root / "masks").mkdir()
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[10:30, 20:50], labels[40:50, 5:15] = 3, 4
    np.save(root / "masks/labels.npy", labels)
    np.save(root / "masks/bool.npy", labels == 3)
    np.save(root / "masks/planes.npy", np.stack([labels == 3, labels == 4]))
    return root


def talk(question: str, answer: str, think: str = "The mug is near.") -> list[dict]:
    user = f"{OPENING}{question}{THINK}\nPlease provide the answer within the <answer> </answer> tags."
    return [{"role": "user", "content": user}, {"role": "assistant", "content": f"<think>{think}</think><answer>{answer}</answer>"}]


def preview(id: str, scene: str, question: str, answer: str, /, **info) -> dict:
    """A record of the preview's meta.json."""
    return {"id": id, "messages": talk(question, answer), "videos": [frames_of(scene)], "extra_info": info}


def full(id: str, scene: str, question: str, answer: str, category: str, task: str, scale: str = "m", **annotations) -> dict:
    """A record of the full release's all.json."""
    kinds = [name for name, key in (("point", "points"), ("bbox", "bboxes"), ("mask", "masks")) if annotations.get(key)]
    return {
        "id": id,
        "input_type": "_".join(["image", *kinds, "text"]),
        "messages": talk(question, answer),
        "videos": [frames_of(scene)],
        "annotations": {"points": None, "bboxes": None, "masks": None, "dual_bbox": None, **annotations},
        "metadata": {"scene_source": scene.split("_")[0], "original_id": 17, "category": category, "scale": scale, "original_type": task},
    }


def spacevista_records() -> list[dict]:
    """36 records that have every field and every form of it."""
    mug, street, ball = SCENES
    labels, planes = "masks/labels.npy", "masks/planes.npy"
    at = {key: f"{mug}/0003.png" for key in ("image_path",)}
    box = {"x1": 20, "y1": 10, "x2": 50, "y2": 30}
    pair = {"image_path_1": f"{mug}/0000.png", "bbox_1": box, "image_path_2": f"{mug}/0004.png", "bboxes_2": [box, {**box, "x2": 60}]}
    out = [
        preview("v2_1", mug, "How tall is it (in millimeters)?", "18.4", task_type="HEIGHT"),
        preview("v2_2", mug, "How far is it (in centimeters)?", "41", task_type="DEPTH", input_point=at | {"points": [[12, 70], [5, 6]]}),
        preview("v2_3", mug, "How far is it (in meters)?", "0.4", task_type="DEPTH_all", input_bbox=at | {"bboxes": [box, box]}),
        preview("v2_4", mug, "Which is the same?\nA. blue\nB. green", "B", task_type="OBJECT_MATCHING", input_bbox=pair),
        preview("v2_5", mug, "Is it there?", "yes", task_type="EXISTENCE", input_mask=at | {"mask_path": labels, "object_ids": [3]}),
        preview("v2_6", mug, "Is it there?", "no", type="EXISTENCE", input_mask=at | {"mask_path": planes, "object_ids": [False, True]}),
        preview("v2_7", mug, "How many mugs?", "3", task_type="COUNTING", index=[0, 3], nested={"deep": [1, {"ä": None}]}, score=0.25),
        preview("v2_8", mug, "By how much did the camera turn (in degrees)?", "-30", task_type="CAMERA_ROTATION", answer="-30", flag=True),
        preview(
            "v2_9", mug, "How far?", "41", task_type="OBJECT_DISTANCE",
            point_image_path=f"{mug}/0001.png", point_points="[[12, 70]]", mask_image_path="elsewhere/0002.png",
            mask_mask_path='["masks/bool.npy", "masks/bool.npy"]', mask_object_ids="[true]", bbox_image_path=None, bbox_bboxes=None,
        ),
        preview(
            "v2_10", street, "Which?", "A", task_type="OBJECT_MATCHING",
            bbox_image_path_1=f"{street.replace('images_8', 'images')}/0001.png", bbox_bbox_1=json.dumps(box),
            bbox_image_path_2=f"{street}/0002.png", bbox_bboxes_2=json.dumps([box, [20, 10, 50, 30]]),
        ),
        preview("v2_11", ball, "Where?", "left", task_type="SPATIAL_RELATION") | {"spare": {"a": [1]}, "prompt": "own", "images": []},
    ]  # fmt: skip
    out[0]["messages"] = [{"role": "system", "content": "You are a helpful assistant."}, *out[0]["messages"]]
    out[7]["messages"][1]["content"] = "<think>\nIt turns.\n</think>\n<answer> -30 </answer>"
    out[10]["messages"] = [{"role": "user", "content": "<video>Where is it?"}, {"role": "assistant", "content": "<answer>left</answer>"}]
    spot = {"coords": [12, 70], "image_index": 2, "color": "green"}
    area = {"coords": [20, 10, 50, 30], "image_index": 4, "color": None}
    mask = {"image_path": f"{ball}/0001.png", "mask_path": "masks/labels.npy", "object_ids": [3, 4]}
    dual = {
        "source_image": f"{ball}/0000.png",
        "source_bbox": area["coords"],
        "target_image": f"{ball}/0004.png",
        "target_bboxes": [[1, 2, 9, 9]],
    }
    marks = [
        {}, {"points": [spot, {**spot, "color": "red"}]}, {"bboxes": [area]}, {"masks": [mask]}, {"dual_bbox": dual},
        {"points": [spot], "bboxes": [area, area]}, {"masks": [{**mask, "mask_path": mask}]},
    ]  # fmt: skip
    categories = (
        ("TinyTabletop", "mm"),
        ("Tiny Tabletop", "mm"),
        ("Tabletop", "cm"),
        ("Indoor", "m"),
        ("Wild Indoor", "m"),
        ("Outdoor", "<km"),
        ("Drone", "<km"),
    )
    for i in range(25):
        category, scale = categories[i % len(categories)]
        question, answer, task = (
            ("How long is it (in centimeters)?", "12.5", "WIDTH"),
            ("How far apart, in metres?", "3", "OBJECT_DISTANCE"),
            ("Which first?\nA. mug\nB. ball\nC. door\nD. both", "D", "APPEAR_ORDER"),
            ("How large is the room (in square meters)?", "21.5", "ROOM_SIZE"),
        )[i % 4]  # fmt: skip
        out.append(full(f"wild__{i}", ball, question, answer, category, task, scale, **marks[i % len(marks)]))
    return out


def write_list(path: Path, records: list[dict]) -> str:
    path.write_text("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n]\n", encoding="utf-8")
    return str(path)
