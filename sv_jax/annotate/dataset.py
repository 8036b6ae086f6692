"""Own videos to a dataset folder that `sv_jax.data.open_split` reads, with depth and ids beside the clips."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sv_jax.annotate.annotate import annotate
from sv_jax.annotate.lift import check_intrinsics
from sv_jax.annotate.specialists import DEPTHS, DETECTORS, TRACKERS, VIDEO_DEPTHS, Clip, choose
from sv_jax.data import codec, sets
from sv_jax.errors import UserError, unknown
from sv_jax.files import new_folder
from sv_jax.inputs.processor import resize
from sv_jax.inputs.video import read_video
from sv_jax.scenes.scene import SCALES, Scene
from sv_jax.tasks import QA, ask

# What was compared with the exact answers under noise. No counting: a detector finds what it was asked for, in the first frame, which need
# not be all that the video shows.
ASKED = ("object_size", "absolute_distance", "position_comparison", "size_comparison", "depth")


@dataclass(frozen=True)
class AnnotateConfig:
    """What to annotate, and with which specialists: `NAME` or `NAME:WHERE`, see `sv_jax.annotate.specialists`."""

    videos: tuple[str, ...]
    out: str
    depth: str = "depth_pro"
    detect: str = "grounding_dino"
    track: str = "sam2"
    video_depth: str | None = None  # consistent in time; None takes the metric depth as it is
    strength: float = 1.0  # lambda of Eq. 5
    phrases: tuple[str, ...] = ()  # what the detector looks for
    cameras: str | None = None  # folder with <video name>.npz: poses [F, 4, 4] and K [3, 3] of the video; None is a single frame
    fov: float | None = None  # degrees across the width, where no K is given; None leaves it to the depth specialist
    scale: str | None = None  # one of SCALES; None is by size
    side: int = 448  # pixels of the longer side, at most
    questions: int = 12  # for each video, at most
    split: str = "train"
    seed: int = 0
    strict: bool = False  # stop at the first video that cannot be annotated instead of leaving it out

    def __post_init__(self):
        names = [Path(video).stem for video in self.videos]
        if not names:
            raise UserError("videos: none given, expected at least one")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise UserError(f"videos: two are called {twice[0]!r}; expected different names")
        if self.scale is not None and self.scale not in SCALES:
            raise unknown("scale", self.scale, SCALES)
        if self.fov is not None and not 1 <= self.fov <= 170:
            raise UserError(f"fov {self.fov:g}: expected degrees across the width, from 1 to 170")
        if self.side < 32 or self.questions < 1:
            raise UserError(f"side {self.side}, questions {self.questions}: expected at least 32 pixels and 1 question")


def annotate_videos(cfg: AnnotateConfig, progress: Callable[[int], None] = lambda done: None) -> dict:
    """Write the dataset folder and return its manifest: counts as those of `sv_jax.data.build`, and `left_out`, a reason for each video.

    All is written to a temporary folder that takes its name at the end. `progress(done)` is called with the number of videos done.
    UserError where `out` exists, for an unknown specialist, where no video can be annotated, and with `strict` for the first that cannot.
    """
    out = Path(cfg.out)
    if out.exists():
        raise UserError(f"out {cfg.out!r}: exists; expected a new folder")
    if not any(Path(video).is_file() for video in cfg.videos):  # said before models are fetched and loaded
        raise UserError(f"videos: none of {len(cfg.videos)} exists; the first is {cfg.videos[0]!r}")
    depth, detect, track = choose("depth", cfg.depth, DEPTHS), choose("detect", cfg.detect, DETECTORS), choose("track", cfg.track, TRACKERS)
    video_depth = choose("video_depth", cfg.video_depth, VIDEO_DEPTHS) if cfg.video_depth is not None else None
    run = partial(_measure, cfg=cfg, depth=depth, detect=detect, track=track, video_depth=video_depth)
    with new_folder(out) as folder:
        config = {name: value for name, value in dataclasses.asdict(cfg).items() if name != "out"}
        manifest = {"config": config} | _write(cfg, folder, run, progress)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return manifest


def _measure(video: str, cfg: AnnotateConfig, depth, detect, track, video_depth) -> tuple[Scene, list[QA]]:
    """The scene of a video, and questions about it. UserError where there are none."""
    clip, poses = read_clip(video, cfg)
    scene = annotate(
        clip, depth, detect, track, cfg.phrases, video_depth=video_depth, strength=cfg.strength, poses=poses, scale=cfg.scale
    )  # fmt: skip
    name = int.from_bytes(hashlib.sha256(scene.id.encode()).digest()[:4])
    questions = ask(scene, np.random.default_rng([cfg.seed, name]), cfg.questions, ASKED)
    if not questions:
        raise UserError(f"{scene.id}: no task can be asked about what was measured")
    return scene, questions


def _write(cfg: AnnotateConfig, folder: Path, run: Callable[[str], tuple[Scene, list[QA]]], progress) -> dict:
    """Write the videos' scenes and questions; returns the counts, and why videos were left out."""
    left_out, row = {}, 0
    with sets.Writers(folder, [cfg.split], geometry=True) as writers:
        for done, video in enumerate(cfg.videos):
            progress(done)
            try:
                scene, questions = run(video)
            except UserError as error:
                if cfg.strict:
                    raise
                left_out[video] = str(error)
                continue
            writers.scene(cfg.split, scene, codec.encode_clip(scene.frames, scene.fps))
            for qa in questions:
                writers.question(cfg.split, qa, row)
            row += 1
        progress(len(cfg.videos))
        if not row:
            raise UserError(f"videos: none of {len(cfg.videos)} could be annotated; {next(iter(left_out.values()))}")
    return {"splits": {cfg.split: writers.report(cfg.split)}, "left_out": left_out}


def read_clip(video: str, cfg: AnnotateConfig) -> tuple[Clip, np.ndarray | None]:
    """A video's clip at no more than `side` pixels, with even sides, and its poses f64 [F, 4, 4] if they are known.

    With F poses the clip has F frames, evenly spread from the first one on; without it is the first frame alone."""
    K, poses = _cameras(video, cfg)
    frames, fps = read_video(video, num_frames=max(2, 1 if poses is None else len(poses)))
    if poses is None:
        frames, fps = frames[:1], 1.0
    full = frames.shape[1:3]
    zoom = min(1.0, cfg.side / max(full))
    height, width = (max(2, 2 * round(side * zoom / 2)) for side in full)
    if K is None and cfg.fov is not None:
        focal = full[1] / 2 / np.tan(np.radians(cfg.fov) / 2)
        K = np.array([[focal, 0, full[1] / 2], [0, focal, full[0] / 2], [0, 0, 1]])
    if K is not None:
        check_intrinsics(K, full)
        K = np.diag([width / full[1], height / full[0], 1.0]) @ K
    return Clip(Path(video).stem, resize(frames, height, width), fps, full, K), poses


def _cameras(video: str, cfg: AnnotateConfig) -> tuple[np.ndarray | None, np.ndarray | None]:
    """K [3, 3] and poses [F, 4, 4] of a video, from its file in `cameras`; None for what is not known."""
    if cfg.cameras is None:
        return None, None
    file = Path(cfg.cameras) / f"{Path(video).stem}.npz"
    try:
        with np.load(file) as stored:
            K, poses = stored.get("K"), stored.get("poses")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "not an npz file of numbers"
        raise UserError(f"cameras {str(file)!r}: {reason}; expected poses [F, 4, 4] and K [3, 3]") from None
    if poses is not None and (poses.ndim != 3 or len(poses) < 2 or len(poses) % 2):
        raise UserError(f"cameras {str(file)!r}: poses {list(poses.shape)}, expected [F, 4, 4] with an even number F of frames")
    return K, poses
