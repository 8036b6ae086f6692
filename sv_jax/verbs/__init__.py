"""The verbs of `sv-jax`, a table: each takes its options, calls, prints. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from sv_jax.errors import UserError, unknown
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig
from sv_jax.verbs.data import DATA_VERBS
from sv_jax.verbs.verb import Verb


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
    **DATA_VERBS,
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
