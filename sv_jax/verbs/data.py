"""The verbs `sv-jax data …`."""

from __future__ import annotations

import argparse

from sv_jax.errors import UserError
from sv_jax.verbs.verb import Verb

SHOWN_FAULTS = 20  # of an import, on the screen


def _data_build_config() -> type:
    from sv_jax.data.build import BuildConfig

    return BuildConfig


def _data_build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beam", nargs="*", metavar="OPTION=VALUE", help="make it with Apache Beam; its pipeline options, such as runner")


def _data_build(args: argparse.Namespace) -> None:
    from functools import partial

    from sv_jax.data import beam, workers
    from sv_jax.data.build import build
    from sv_jax.data.card import tables
    from sv_jax.progress import progress

    cfg = args.config
    with progress("scenes", sum(split.scenes for split in cfg.splits) * len(cfg.scales)) as bar:
        make = workers.make_units if args.beam is None else partial(beam.make_units, args.beam)
        manifest = build(cfg, lambda done, total: bar.advance(done), make)
    print("\n".join([cfg.out, *tables(manifest)]))


def _data_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="source", required=True, metavar="FORMAT", help="spacevista, vsi, spar, sti or mmsi")
    parser.add_argument("--questions", required=True, nargs="+", metavar="FILE", help="a JSON list, JSON lines or parquet")
    parser.add_argument("--media", required=True, metavar="FOLDER", help="what the paths in the records are relative to")
    parser.add_argument("--out", required=True, metavar="D", help="dataset folder to write")
    parser.add_argument("--split", metavar="NAME", help="of the dataset (default: train for training data, eval for benchmarks)")
    parser.add_argument("--scale", help="of records that name none: tiny, tabletop, indoor, outdoor, drone")
    parser.add_argument("--frames", type=int, default=32, metavar="N", help="kept of a clip, those with marks on top (default: 32)")
    parser.add_argument("--side", type=int, default=448, metavar="N", help="longest side that is kept, in pixels (default: 448)")
    parser.add_argument("--strict", action="store_true", help="stop at the first record that is wrong")


def _data_import(args: argparse.Namespace) -> None:

    from sv_jax.data.published import ImportConfig, import_questions

    cfg = ImportConfig(
        args.source, tuple(args.questions), args.media, args.out, args.split, args.scale, args.frames, args.side, args.strict
    )
    manifest = import_questions(cfg)
    for name, split in manifest["splits"].items():
        print(f"{cfg.out} {name}: {split['scenes']} clips, {split['questions']} questions")
    print(f"{'source':16}{'questions':>10}  licence")
    for name, source in manifest["licences"].items():
        print(f"{name:16}{source['questions']:10}  {source['licence']}")
    _show_faults(manifest["faults"], "records left out", cfg.out)


def _show_faults(faults: dict, what: str, out: str) -> None:
    """The first faults of a manifest, one a line, and how many there are of each kind."""
    import sys

    for line in faults["lines"][:SHOWN_FAULTS]:
        print(line, file=sys.stderr)
    if faults["lines"]:
        kinds = ", ".join(f"{n} {kind}" for kind, n in faults["counts"].items())
        print(f"{len(faults['lines'])} {what}: {kinds}; all of them are in {out}/manifest.json", file=sys.stderr)


def _data_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="D", help="dataset folder")
    parser.add_argument("--as", dest="as_", default="spacevista", metavar="FORMAT", help="spacevista (default)")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON list to write; frames go into FILE's name + _frames, beside it")
    parser.add_argument("--split", default="train", metavar="NAME", help="of the dataset (default: train)")
    parser.add_argument("--flatten", action="store_true", help="only scalars in extra_info, as the released training code wants it")


def _data_export(args: argparse.Namespace) -> None:
    from sv_jax.data.published import export_questions

    count = export_questions(args.data, args.as_, args.out, split=args.split, flatten=args.flatten)
    print(f"{args.out}: {count} records")


def _data_annotate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--video", metavar="FILE", action="extend", nargs="+", required=True, help="may be given several times")
    parser.add_argument("--out", required=True, metavar="D", help="folder to write")
    parser.add_argument("--phrases", metavar="P,…", default="", help='what to detect: "red mug,book"')
    parser.add_argument("--depth", default="depth_pro", metavar="NAME", help="depth_pro (default), depth_anything or disk")
    parser.add_argument("--detect", default="grounding_dino", metavar="NAME", help="grounding_dino (default) or disk")
    parser.add_argument("--track", default="sam2", metavar="NAME", help="sam2 (default) or disk")
    parser.add_argument("--video-depth", metavar="NAME", help="depth that is consistent in time, which Eq. 5 follows")
    parser.add_argument("--strength", type=float, default=1.0, metavar="L", help="lambda of Eq. 5 (default: 1)")
    parser.add_argument("--cameras", metavar="FOLDER", help="<video name>.npz: poses [F, 4, 4] of F even frames, K [3, 3]; else one frame")
    parser.add_argument("--fov", type=float, metavar="DEGREES", help="across the width, where no K is given")
    parser.add_argument("--scale", help="tiny, tabletop, indoor, outdoor or drone (default: by size)")
    parser.add_argument("--side", type=int, default=448, metavar="N", help="pixels of the longer side, at most (default: 448)")
    parser.add_argument("--questions", type=int, default=12, metavar="N", help="for each video, at most (default: 12)")
    parser.add_argument("--split", default="train", metavar="NAME", help="of the dataset (default: train)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strict", action="store_true", help="stop at the first video that cannot be annotated")


def _data_annotate(args: argparse.Namespace) -> None:
    import dataclasses
    import sys

    from sv_jax.annotate.dataset import AnnotateConfig, annotate_videos
    from sv_jax.progress import progress

    phrases = tuple(phrase.strip() for phrase in args.phrases.split(",") if phrase.strip())
    named = {f.name: getattr(args, f.name) for f in dataclasses.fields(AnnotateConfig) if f.name not in ("videos", "phrases")}
    cfg = AnnotateConfig(videos=tuple(args.video), phrases=phrases, **named)
    with progress("videos", len(cfg.videos)) as bar:
        manifest = annotate_videos(cfg, lambda done: bar.advance(done))
    for video, reason in manifest["left_out"].items():
        print(f"left out {video}: {reason}", file=sys.stderr)
    found = manifest["splits"][cfg.split]
    print(f"{cfg.out} {cfg.split}: {found['scenes']} scenes, {found['questions']} questions, {len(manifest['left_out'])} videos left out")


def _data_stats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="dataset folder")
    parser.add_argument("--split", metavar="S", help="one split (default: all together)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")


def _data_stats(args: argparse.Namespace) -> None:
    import json

    from sv_jax.audit.stats import stats
    from sv_jax.audit.tables import show

    found = stats(args.data, args.split)
    print(json.dumps(found)) if args.json else show(found)


def _data_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="dataset folder")
    parser.add_argument("--html", metavar="OUT.html", help="write one page with pictures (default: print text)")
    parser.add_argument("--n", type=int, default=4, metavar="N", help="of every task and scale, at most (default: 4)")
    parser.add_argument("--split", metavar="S", help="one split (default: all together)")
    parser.add_argument("--task", metavar="T,…", default="", help="only these tasks")
    parser.add_argument("--scale", metavar="S,…", default="", help="only these scales")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")


def _data_inspect(args: argparse.Namespace) -> None:
    from pathlib import Path

    from sv_jax.audit.page import write_page
    from sv_jax.audit.samples import as_text, pick
    from sv_jax.progress import progress

    if args.html is not None and Path(args.html).is_dir():
        raise UserError(f"--html {args.html!r}: is a folder; expected a file to write")
    if args.html is not None and any(parent.is_file() for parent in Path(args.html).parents):
        raise UserError(f"--html {args.html!r}: stands in a file, not in a folder")
    tasks, scales = ([name.strip() for name in names.split(",") if name.strip()] for names in (args.task, args.scale))
    asked = pick(args.data, args.n, split=args.split, tasks=tasks, scales=scales, seed=args.seed)
    if args.html is None:
        print(as_text(asked))
        return
    with progress("samples", len(asked)) as bar:
        write_page(args.data, args.html, asked, bar.advance)
    print(f"{args.html}: {len(asked)} samples, {Path(args.html).stat().st_size / 2**20:.1f} MiB")


def _data_load_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="source", required=True, metavar="LAYOUT", help="scannet, scannetpp, arkit, wildrgbd, uco3d, dl3dv, smot"
    )
    parser.add_argument("--media", required=True, metavar="FOLDER", help="the source's folder, or one scene of it")
    parser.add_argument("--out", required=True, metavar="D", help="dataset folder to write")
    parser.add_argument("--scale", help="tiny, tabletop, indoor, outdoor or drone (default: by the size of the objects, else the source's)")
    parser.add_argument("--frames", type=int, default=16, metavar="N", help="of a scene, at most, evenly spread (default: 16)")
    parser.add_argument("--side", type=int, default=448, metavar="N", help="pixels of the longer side, at most (default: 448)")
    parser.add_argument("--questions", type=int, default=12, metavar="N", help="for each scene, at most (default: 12)")
    parser.add_argument("--strict", action="store_true", help="stop at the first frame or scene that is wrong")


def _data_load(args: argparse.Namespace) -> None:

    from sv_jax.recorded.load import LoadConfig, load_recordings

    cfg = LoadConfig(args.source, args.media, args.out, args.scale, args.frames, args.side, args.questions, args.strict)
    manifest = load_recordings(cfg)
    print(f"{'scene':32}{'scale':10}{'frames':>7}{'objects':>8}{'questions':>10}")
    for id, scene in manifest["scenes"].items():
        print(f"{id:32}{scene['scale']:10}{scene['frames']:7}{scene['objects']:8}{scene['questions']:10}")
    print(f"{'source':16}{'scenes':>7}{'questions':>10}  licence")
    for name, source in manifest["licences"].items():
        print(f"{name:16}{source['scenes']:7}{source['questions']:10}  {source['licence']}")
    _show_faults(manifest["faults"], "faults", cfg.out)


DATA_VERBS: dict[str, Verb] = {
    "data build": Verb(
        "procedural scenes with questions, as a dataset folder",
        "  sv-jax data build --preset small --out data/small --workers 2\n"
        "  sv-jax data build --preset plain --out data/plain\n"
        "  sv-jax data build --out data/large --splits.0.scenes 10000 --tasks counting,depth --shard-scenes 1024\n"
        "The same config makes the same data, however many processes make it; a folder that holds it already is left as it is. What was\n"
        "interrupted goes on when the same command runs again.\n"
        "  sv-jax data build --config data.yaml --out /shared/data --beam runner=FlinkRunner flink_master=host:8081\n"
        "gives the same files, made by the machines of a runner of Apache Beam, which all see the folder; alone, --beam runs here.",
        _data_build,
        _data_build_arguments,
        config=_data_build_config,
        presets="data",
    ),
    "data import": Verb(
        "published question files and their media, as a dataset folder",
        "  sv-jax data import --from spacevista --questions meta.json --media Preview --scale tabletop --out data/preview\n"
        "  sv-jax data import --from spacevista --questions all.json --media frames --out data/1m --strict\n"
        "  sv-jax data import --from vsi --questions test.parquet --media VSI-Bench --out data/vsi        DATASET/SCENE.mp4 in there\n"
        "  sv-jax data import --from mmsi --questions MMSI_Bench.parquet --media . --out data/mmsi        pictures are in the file\n"
        "Records that are wrong (not JSON, unknown tasks or units, ids that come twice, missing or broken media, missing fields) are left\n"
        "out, counted and named with file and line; --strict stops at the first. The licence of each source is printed and kept.",
        _data_import,
        _data_import_arguments,
    ),
    "data export": Verb(
        "a dataset folder's questions in SpaceVista-1M's format",
        "  sv-jax data export --data data/small --as spacevista --out out/small.json\n"
        "  sv-jax data export --data data/preview --as spacevista --out out/again.json      imported records come back as they were\n"
        "  sv-jax data export --data data/small --out out/flat.json --flatten               for the released training code",
        _data_export,
        _data_export_arguments,
    ),
    "data annotate": Verb(
        "your own videos with questions, as a dataset folder, by specialist models",
        '  sv-jax data annotate --video desk.mp4 --phrases "red mug,book" --out data/desk\n'
        "  sv-jax data annotate --video a.mp4 b.mp4 --cameras poses --depth disk:maps --detect disk:maps --track disk:maps --out data/ab\n"
        "NAME is NAME:WHERE for a model folder or hub id, as in grounding_dino:IDEA-Research/grounding-dino-base. disk:FOLDER reads what\n"
        "was measured elsewhere, from FOLDER/<video name>.npz: depth, disparity and ids [F, H, W], boxes [n, 4] and phrases [n]. Without\n"
        "poses the first frame alone is annotated.",
        _data_annotate,
        _data_annotate_arguments,
    ),
    "data stats": Verb(
        "counts, balance and duplicates of a dataset, and what can be guessed without its frames",
        "  sv-jax data stats data/small\n  sv-jax data stats data/small --split eval --json",
        _data_stats,
        _data_stats_arguments,
    ),
    "data inspect": Verb(
        "samples of a dataset: one page of pictures with what each question is about, or text",
        "  sv-jax data inspect data/small --html samples.html\n"
        "  sv-jax data inspect data/small --task depth,counting --scale indoor --n 2\n"
        "Objects are outlined, and answers drawn, where the dataset keeps its geometry (--geometry true of data build).",
        _data_inspect,
        _data_inspect_arguments,
    ),
    "data load": Verb(
        "recorded scenes with cameras (ScanNet, WildRGB-D, …), as a dataset folder",
        "  sv-jax data load --from wildrgbd --media WildRGB-D --out data/wildrgbd\n"
        "  sv-jax data load --from scannet --media scans --scale indoor --frames 32 --out data/scannet\n"
        "  sv-jax data load --from dl3dv --media DL3DV/1K --out data/dl3dv --strict        clips and cameras: it has no depth\n"
        "Cameras are checked against the depth: what one frame shows, seen from another, must be there. Frames and scenes that are wrong\n"
        "are left out, counted and named with their file; --strict stops at the first. Sources whose unit is not the metre (uco3d,\n"
        "dl3dv) are asked only what does not depend on it.",
        _data_load,
        _data_load_arguments,
    ),
}
