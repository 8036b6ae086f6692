"""`sv-jax data load`: recorded scenes with cameras to a dataset folder.

out/manifest.json     what was loaded, counts per task and scale, licences, and everything that was left out, with its file
out/scenes, out/qa    as `sv-jax data build` writes them; out/geom where the source has depth
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sv_jax.annotate.dataset import ASKED
from sv_jax.data import codec, sets
from sv_jax.data.published.licences import licence
from sv_jax.errors import UserError, unknown
from sv_jax.files import new_folder
from sv_jax.progress import progress
from sv_jax.recorded import arkit, dl3dv, scannet, scannetpp, smot, uco3d, wildrgbd
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.recording import Recording
from sv_jax.recorded.scene import to_scene
from sv_jax.scenes.scene import SCALES, Scene
from sv_jax.tasks import QA, ask
from sv_jax.tasks.units import METRES

# Of scenes whose unit is arbitrary: what does not change with it. A question whose answer has a unit of length is dropped still.
SCALE_FREE = ("position_comparison", "size_comparison", "relative_distance", "view_change", "rotation")
SPLIT = "train"


@dataclass(frozen=True)
class Layout:
    """`scenes(root)` lists a source's scenes, `read(folder, faults)` describes one."""

    scenes: Callable[[Path], list[Path]]
    read: Callable[[Path, Faults], Recording]
    holds: str  # what a scene is known by, for people
    source: str  # a key of LICENCES
    scale: str  # of scenes whose objects are not measured
    metric: bool = True  # the unit is the metre
    depth: bool = True


LAYOUTS = {
    "scannet": Layout(scannet.scenes, scannet.read, "<scan>/intrinsic/intrinsic_color.txt", "ScanNet", "indoor"),
    "scannetpp": Layout(scannetpp.scenes, scannetpp.read, "data/<id>/iphone/pose_intrinsic_imu.json", "ScanNet++", "indoor"),
    "arkit": Layout(arkit.scenes, arkit.read, "<video>/lowres_wide.traj", "ARKitScenes", "indoor"),
    "wildrgbd": Layout(wildrgbd.scenes, wildrgbd.read, "<category>/scenes/<scene>/cam_poses.txt", "WildRGB-D", "tabletop"),
    "uco3d": Layout(
        uco3d.scenes, uco3d.read, "metadata.sqlite and <super-category>/<category>/<sequence>", "uCO3D", "tabletop", metric=False
    ),
    "dl3dv": Layout(dl3dv.scenes, dl3dv.read, "<hash>/transforms.json", "DL3DV", "outdoor", metric=False, depth=False),
    "smot": Layout(smot.scenes, smot.read, "<scene>/poses.txt", "SMOT", "tabletop"),
}


@dataclass(frozen=True)
class LoadConfig:
    """What to load. Frames and scenes that are wrong are left out and reported; with `strict` the first of them is an error."""

    source: str  # a key of LAYOUTS
    media: str
    out: str
    scale: str | None = None  # None is by the size of the objects, else the source's
    frames: int = 16  # at most, of a scene
    side: int = 448  # pixels of the longer side, at most
    questions: int = 12  # for each scene, at most
    strict: bool = False

    def __post_init__(self):
        if self.source not in LAYOUTS:
            raise unknown("--from", self.source, LAYOUTS)
        if self.scale is not None and self.scale not in SCALES:
            raise unknown("--scale", self.scale, SCALES)
        if self.frames < 2 or self.side < 32 or self.questions < 0:
            found = f"--frames {self.frames}, --side {self.side}, --questions {self.questions}"
            raise UserError(f"{found}: expected at least 2 frames, 32 pixels and no negative number")
        if not Path(self.media).is_dir():
            raise UserError(f"--media {self.media!r}: no such folder")
        if Path(self.out).exists():
            raise UserError(f"--out {self.out!r}: exists; expected a new folder")


def load(folder: str | Path, source: str, faults: Faults, frames: int = 16, side: int = 448, scale: str | None = None) -> Scene:
    """The scene in a folder of a source, a key of LAYOUTS. BadInput where it cannot be taken; faults of single frames are added."""
    layout = LAYOUTS[source]
    try:
        recording = layout.read(Path(folder), faults)
    except UserError:
        raise
    except (LookupError, TypeError, ValueError) as error:  # a file of another form than the layout's
        raise BadInput("broken file", folder, f"not as {layout.source} has it ({type(error).__name__}: {error})") from None
    if not layout.metric:
        scale = scale or layout.scale  # sizes say nothing
    return to_scene(recording, faults, frames, side, layout.scale, scale)


def load_recordings(cfg: LoadConfig) -> dict:
    """Write the dataset, with a bar that counts scenes, and return its manifest: `splits` as of a build, `scenes` id -> {scale, frames,
    objects, questions}, `licences` source -> {licence, scenes, questions}, `faults`. UserError where nothing is left, and with `strict`
    for the first fault."""
    layout, faults = LAYOUTS[cfg.source], Faults(cfg.strict)
    folders = layout.scenes(Path(cfg.media))
    if not folders:
        raise UserError(f"--media {cfg.media!r}: no scene of {cfg.source} in it; expected {layout.holds}")
    scenes: dict[str, dict] = {}
    with new_folder(cfg.out) as out:
        with sets.Writers(out, [SPLIT], geometry=layout.depth) as writers, progress("scenes", len(folders)) as bar:
            for scene in _scenes(cfg, folders, faults, bar.advance):
                asked = questions(scene, cfg.questions, layout.metric) if scene.objects else []
                writers.scene(SPLIT, scene, codec.encode_clip(scene.frames, scene.fps))
                for qa in asked:
                    writers.question(SPLIT, qa, len(scenes))
                row = {"scale": scene.scale, "frames": len(scene.frames), "objects": len(scene.objects), "questions": len(asked)}
                scenes[scene.id] = row
        if not scenes:
            raise UserError(f"--media {cfg.media!r}: none of {len(folders)} scenes can be taken; the first: {faults.lines[0]}")
        report = writers.report(SPLIT)
        source = {"licence": licence(layout.source), "scenes": len(scenes), "questions": report["questions"]}
        manifest = {
            "config": {key: value for key, value in dataclasses.asdict(cfg).items() if key != "out"},
            "splits": {SPLIT: report},
            "scenes": scenes,
            "metric": layout.metric,
            "licences": {layout.source: source},
            "faults": {"counts": dict(faults.counts), "lines": faults.lines},
        }
        (out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return manifest


def _scenes(cfg: LoadConfig, folders: list[Path], faults: Faults, advance: Callable[[int], None]) -> Iterator[Scene]:
    taken: dict[str, Path] = {}
    for done, folder in enumerate(folders, 1):
        try:
            scene = load(folder, cfg.source, faults, cfg.frames, cfg.side, cfg.scale)
            if scene.id in taken:
                raise BadInput("duplicate id", folder, f"scene {scene.id!r} is {taken[scene.id]} already")
            taken[scene.id] = folder
            yield scene
        except BadInput as fault:
            faults.add(fault)
        advance(done)


def questions(scene: Scene, count: int, metric: bool) -> list[QA]:
    """Questions about a scene. Where its unit is not the metre, only those that do not depend on it, without reasoning and anchor, which
    name lengths."""
    seed = int.from_bytes(hashlib.sha256(scene.id.encode()).digest()[:4])
    found = ask(scene, np.random.default_rng(seed), count, ASKED if metric else SCALE_FREE)
    if metric:
        return found
    return [dataclasses.replace(qa, reasoning="", scale_anchor=None) for qa in found if qa.unit not in METRES]
