"""The verbs of `sv-jax`, a table: each takes its options, calls, prints. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

from sv_jax.errors import UserError, unknown
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig

SHOWN_FAULTS = 20  # of an import, on the screen


@dataclass(frozen=True)
class Verb:
    """`summary` is its line in the overview, `teach` the examples of its --help. With `config` (which imports and returns a dataclass) the
    verb takes --config FILE and every field by its dotted name; `run` then finds the result in `args.config`. `presets` is a folder in
    configs/, whose files --preset names."""

    summary: str
    teach: str
    run: Callable[[argparse.Namespace], None]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    config: Callable[[], type] | None = None
    presets: str | None = None
    compiles: bool = False  # count compilations, and say at the end what was compiled; the demo does so itself


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="the same path, smaller")
    parser.add_argument("--out", default="runs/demo", metavar="FOLDER", help="run folder (default: runs/demo)")


def _demo(args: argparse.Namespace) -> None:
    from sv_jax.demo import demo

    demo(args.out, quick=args.quick)


@dataclass(frozen=True)
class InitConfig:
    """`sv-jax init`: `fusion` and `experts` are null where the model shall have none. `adapters` are PEFT's LoRA folders, which become the
    experts (their number, rank and alpha are theirs): for tiny, tabletop, … in this order."""

    qwen: str
    out: str
    dino: str | None = None
    adapters: tuple[str, ...] = ()
    fusion: FusionConfig | None = None
    experts: ExpertsConfig | None = field(default_factory=ExpertsConfig)
    seed: int = 0


def _init(args: argparse.Namespace) -> None:
    from sv_jax.weights import init_model

    cfg = args.config
    init_model(cfg.qwen, cfg.dino, cfg.fusion, cfg.experts, cfg.out, cfg.seed, cfg.adapters)
    print(cfg.out)


def _ask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question")
    parser.add_argument("--model", required=True, metavar="M", help="model folder or hub id")
    parser.add_argument("--video", metavar="FILE")
    parser.add_argument("--image", metavar="FILE", action="append", default=[], help="may be given several times")
    parser.add_argument(
        "--point", metavar="X,Y", action="append", default=[], help="pixels of the first frame; drawn, and named in the question"
    )
    parser.add_argument("--box", metavar="X1,Y1,X2,Y2", action="append", default=[])
    parser.add_argument("--mask", metavar="FILE.png", action="append", default=[])
    parser.add_argument("--scale", default="auto", help="auto (the model's router) or tiny, tabletop, indoor, outdoor, drone")
    parser.add_argument("--max-new-tokens", type=int, default=256, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the most likely token (default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _ask(args: argparse.Namespace) -> None:
    import json

    from sv_jax.api import load

    messages = [{"role": "user", "content": _question(args)}]
    show = None if args.json else lambda text: print(text, end="", flush=True)
    got = load(args.model).generate(messages, args.max_new_tokens, args.temperature, args.scale, show, seed=args.seed)
    if args.json:
        print(json.dumps({"text": got.text, "token_ids": got.token_ids, "logprobs": got.logprobs, "router": got.router}))
        return
    weights = "  ".join(f"{scale} {weight:.2f}" for scale, weight in (got.router or {}).get("mean", {}).items())
    print(f"\nscale experts: {weights}" if weights else "")


def _question(args: argparse.Namespace) -> list[dict]:
    """The parts of the user's turn; marks are drawn on the first picture."""
    from sv_jax.inputs.marks import mention

    if not args.question.strip():
        raise UserError("question: empty; expected text")
    marks = [{"kind": "point", "xy": _numbers("--point", point, 2)} for point in args.point]
    marks += [{"kind": "box", "xyxy": _numbers("--box", box, 4)} for box in args.box]
    marks += [{"kind": "mask", "mask": mask} for mask in args.mask]
    parts = [{"type": "video", "video": args.video}] if args.video else []
    parts += [{"type": "image", "image": image} for image in args.image]
    if marks and not parts:
        raise UserError("--point, --box and --mask need a picture: give --video or --image")
    if marks:
        parts[0]["marks"] = marks
    return [*parts, {"type": "text", "text": mention(args.question, marks)}]


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise UserError(f"{option}: expected {count} numbers with commas between, found {text!r}")
    return numbers


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


def _resume_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="continue the run from its newest checkpoint, exactly")


def _sft_config() -> type:
    from sv_jax.train.sft import SFTConfig

    return SFTConfig


def _sft(args: argparse.Namespace) -> None:
    from sv_jax.train.sft import train

    print(train(args.config, resume=args.resume))


def _grpo_config() -> type:
    from sv_jax.train.grpo import GRPOConfig

    return GRPOConfig


def _grpo(args: argparse.Namespace) -> None:
    from sv_jax.train.grpo import train

    print(train(args.config, resume=args.resume))


def _eval_config() -> type:
    from sv_jax.evals.run import EvalConfig

    return EvalConfig


def _eval(args: argparse.Namespace) -> None:
    from sv_jax.evals.run import evaluate

    print(evaluate(args.config))


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, metavar="R", help="run folder (its trained model) or model folder")
    parser.add_argument("--out", required=True, metavar="F", help="folder to write")
    parser.add_argument("--as", dest="as_", default="spacevista", metavar="FORMAT", help="spacevista (default), qwen or peft")
    parser.add_argument("--scale", help="with --as qwen: the expert to merge, or none")
    parser.add_argument("--weights", metavar="SCALE=W,…", help="with --as qwen: the sum of experts to merge, such as tiny=0.2,indoor=0.8")
    parser.add_argument("--dtype", help="of the weights, such as bfloat16 (default: as they were trained)")
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file of weights (default: 5GB)")
    parser.add_argument("--names", default="transformers", help="of the tensors: transformers (default), or official, as the released code")


def _export(args: argparse.Namespace) -> None:
    from pathlib import Path

    from sv_jax.weights import export

    trained = Path(args.run) / "model"
    source = trained if trained.is_dir() else args.run
    weights = None if args.weights is None else _scale_weights(args.weights)
    export(source, args.out, args.as_, args.scale, args.dtype, weights, args.max_shard_size, args.names)
    print(args.out)


def _scale_weights(text: str) -> dict[str, float]:
    """`tiny=0.2,indoor=0.8` -> {"tiny": 0.2, "indoor": 0.8}."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    try:
        return {scale.strip(): float(weight) for scale, _, weight in pairs}
    except ValueError as error:
        raise UserError(f"--weights {text!r}: expected a number for each scale, as in tiny=0.2,indoor=0.8") from error


def _inspect_weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="model folder or hub id")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--quick", action="store_true", help="read the headers only: NaN and infinite values are not found")


def _inspect_weights(args: argparse.Namespace) -> None:
    import json

    from sv_jax.weights.inspect import as_json, as_text, inspect_weights
    from sv_jax.weights.safetensors_io import raise_faults

    found = inspect_weights(args.folder, values=not args.quick)
    print(json.dumps(as_json(found)) if args.json else "\n".join(as_text(found)))
    raise_faults(found.faults, args.folder)


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", metavar="NAME", help="models: race every case against its torch peer; data: how fast a dataset is read")
    parser.add_argument("--case", metavar="NAME", help="time one of ours alone, as one JSON line: forward_video, vision, dinov3")
    parser.add_argument("--config", default="small", metavar="SIZE", help="tiny or small (default), of scripts/peers/configs.json")
    parser.add_argument("--dtype", default="fp32,bf16", metavar="D", help="fp32, bf16 or both with a comma between (a suite's default)")
    parser.add_argument("--records", type=int, default=1_000_000, metavar="N", help="suite data: questions of the index (default: 1000000)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="timed calls of each side of a race (default: 9)")
    parser.add_argument("--json", action="store_true", help="a JSON line for each race or rate instead of a table")
    parser.add_argument("--serve", action="store_true", help="with --case: after warming up, one timed call for each line on stdin")


def _bench(args: argparse.Namespace) -> None:
    import json

    from sv_jax.bench.cases import CASES, DTYPES, SUITES, run_case, sizes
    from sv_jax.bench.data import data_suite
    from sv_jax.bench.race import HEAD, race_suite

    dtypes = args.dtype.split(",")
    for option, given, known in (("--suite", [args.suite], [*SUITES, "data"]), ("--case", [args.case], CASES), ("--dtype", dtypes, DTYPES)):
        for name in given:
            if name is not None and name not in known:
                raise unknown(option, name, known)
    if (args.suite is None) == (args.case is None):
        raise UserError("bench: give either --suite or --case")
    for option in ("rounds", "records"):
        if getattr(args, option) < 1:
            raise UserError(f"--{option} {getattr(args, option)}: expected at least 1")
    if args.suite == "data":
        for rate in data_suite(args.records):
            print(json.dumps(rate._asdict()) if args.json else rate.as_row(), flush=True)
        return
    sizes(args.config)
    if args.case:
        run_case(args.case, args.config, dtypes[0], args.serve)
        return
    for n, race in enumerate(race_suite(args.suite, args.config, dtypes, args.rounds)):
        if not n and not args.json:
            print(HEAD)
        print(json.dumps(race.as_json()) if args.json else race.as_row(), flush=True)


VERBS = {
    "demo": Verb(
        "the whole system, small: scenes, SFT in three stages, GRPO, evaluation, export checked in transformers",
        "  sv-jax demo              about ten minutes on two cores\n  sv-jax demo --quick      the same path in less than four",
        _demo,
        _demo_arguments,
    ),
    "init": Verb(
        "a SpaceVista model folder from a Qwen2.5-VL and a DINOv3 checkpoint",
        "  sv-jax init --qwen Qwen/Qwen2.5-VL-7B-Instruct --dino facebook/dinov3-vitl16-pretrain-lvd1689m --out models/base\n"
        "  sv-jax init --qwen models/qwen --out models/experts --experts.rank 16      experts only, no DINOv3\n"
        "  sv-jax init --qwen out/base --adapters out/tiny,out/tabletop,out/indoor,out/outdoor --out models/again      back from --as peft",
        _init,
        config=lambda: InitConfig,
    ),
    "ask": Verb(
        "one answer about a video or image, streamed, with the router's weights per scale",
        '  sv-jax ask --model M --video clip.mp4 "How tall is the mug in centimetres?"\n'
        '  sv-jax ask --model M --image desk.jpg --box 40,60,120,200 "How far is it from the camera?" --json\n'
        '  sv-jax ask --model M --video flight.mp4 --scale outdoor "How wide is the road?"',
        _ask,
        _ask_arguments,
    ),
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
    "sft": Verb(
        "supervised fine-tuning, one stage",
        "  sv-jax sft --config configs/sft.yaml --model models/base --run runs/stage1 --optim.learning_rate 1e-5\n"
        "  sv-jax sft --config runs/stage1/config.yaml --resume",
        _sft,
        _resume_argument,
        _sft_config,
        compiles=True,
    ),
    "grpo": Verb(
        "reinforcement learning from the progressive reward (GRPO)",
        "  sv-jax grpo --config configs/grpo.yaml --model runs/stage3/model --run runs/grpo\n"
        "  sv-jax grpo --config runs/grpo/config.yaml --resume",
        _grpo,
        _resume_argument,
        _grpo_config,
        compiles=True,
    ),
    "eval": Verb(
        "answer held-out questions and score them by task and scale",
        "  sv-jax eval --model runs/grpo/model --data.path data/small --data.split eval --out runs/eval",
        _eval,
        config=_eval_config,
        compiles=True,
    ),
    "inspect weights": Verb(
        "what is in a model folder: tensors, what each becomes here, totals; for a wrong folder all its faults",
        "  sv-jax inspect weights Qwen/Qwen2.5-VL-3B-Instruct --quick\n"
        "  sv-jax inspect weights runs/demo/export --json      exit code 2 when something is wrong",
        _inspect_weights,
        _inspect_weights_arguments,
    ),
    "bench": Verb(
        "speed, as ratios against torch peers timed in turn with ours",
        "  sv-jax bench --suite models        text and video, vision tower, DINOv3, against transformers tuned for this kind of machine\n"
        "  sv-jax bench --suite data          reading, decoding, encoding, batches, the index of a large dataset\n"
        "  sv-jax bench --case vision --config small --dtype bf16        ours alone\n"
        "A ratio is the peer's time over ours, of the medians of calls made in turn: above 1 we are faster. The peers stand in\n"
        "scripts/peers of the repository and need torch.",
        _bench,
        _bench_arguments,
    ),
    "export": Verb(
        "weights back to Hugging Face",
        "  sv-jax export --run runs/grpo --out models/spacevista\n"
        "  sv-jax export --run runs/grpo --out models/indoor --as qwen --scale indoor      plain Qwen2.5-VL, one expert merged\n"
        "  sv-jax export --run runs/grpo --out models/adapters --as peft                   a LoRA folder per expert\n"
        "  sv-jax export --run runs/grpo --out models/released --names official            named as the released SpaceVista code names it",
        _export,
        _export_arguments,
    ),
}
