"""`sv-jax data stats` as tables on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from sv_jax.scenes.scene import SCALES

WIDTH = 150  # where the output is no terminal
FLAGS = {"leak": "[bold red]leak[/]", "maybe": "[yellow]maybe[/]", None: "[green]fine[/]"}


def show(stats: dict) -> None:
    """Print what `stats` holds."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for split, n in stats["splits"].items():
        console.print(f"[bold]{split}[/]: {n['scenes']} scenes, {n['questions']} questions")
    if shared := stats["scenes_in_several_splits"]:
        console.print(f"[bold red]{shared} scenes stand in more than one split[/]")
    same, subject = stats["duplicates"].values()
    console.print(f"repeated in their clip: {same:.1%} with question and answer, {subject:.1%} with task and objects\n")
    tasks = stats["tasks"]
    for title, caption, columns, rows in (_counts(tasks), _choices(tasks), _numbers(tasks), _values(tasks), _blind(stats["blind"])):
        if rows:
            console.print(_table(title, columns, rows))
            console.print(caption, style="dim")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]):
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table


def _counts(tasks: dict):
    columns = ("task", *SCALES, "all", "answers", "wordings", "templates", "units", "repeated", "same objects")
    rows = [
        (
            task, *(str(t["scales"].get(scale, "·")) for scale in SCALES), str(t["questions"]), ", ".join(t["answer_types"]),
            str(t["wordings"]), str(t["templates"]), ", ".join(t["units"]), *(f"{rate:.1%}" for rate in t["duplicates"].values()),
        )
        for task, t in tasks.items()
    ]  # fmt: skip
    total = [sum(t["scales"].get(scale, 0) for t in tasks.values()) for scale in SCALES]
    rows.append(("all", *map(str, total), str(sum(total)), *[""] * 6))
    return "Questions", "", columns, rows


def _choices(tasks: dict):
    rows = []
    for task, t in tasks.items():
        for n, shares in t.get("choices", {}).get("letters", {}).items():
            found = t["choices"]
            yes = f"{found['yes']['share']:.0%} of {found['yes']['questions']}" if n == 2 and found["yes"]["questions"] else ""
            place = " / ".join(f"{share:.0%}" for share in found["sorted_place"].get(n, ()))
            rows.append((task, str(n), str(found["options"][n]), " / ".join(f"{share:.0%}" for share in shares.values()), yes, place))
    caption = "truth among numbers: how often it is the smallest, the next, … where all options are numbers"
    return "Choices", caption, ("task", "options", "questions", "A / B / …", "yes", "truth among numbers"), rows


def _numbers(tasks: dict):
    rows = []
    for task, t in tasks.items():
        for scale, c in t.get("numbers", {}).items():
            span = (f"{c[key]:.3g}" for key in ("least", "median", "most"))
            guess = (f"{c['constant']['answer']:.3g}", f"{c['constant']['mra']:.2f}")
            rows.append((task, scale, str(c["questions"]), ", ".join(c["units"]), *span, f"{c['decades']:.2f}", *guess))
    columns = ("task", "scale", "questions", "unit", "least", "median", "most", "decades", "best constant", "its MRA")
    return "Numbers", "decades: from the 5th to the 95th percentile", columns, rows


def _values(tasks: dict):
    rows = [
        (task, scale, "  ".join(f"{value}: {share:.0%}" for value, share in c["values"].items() if share))
        for task, t in tasks.items()
        for scale, c in t.get("numbers", {}).items()
        if c["values"]
    ]
    return "Counts", "", ("task", "scale", "share of each value"), rows


def _blind(tasks: dict):
    rows = []
    for task, kinds in tasks.items():
        for kind, found in kinds.items():
            names = ("majority" if kind == "choice" else "constant", "words", "options", "class prior")
            probes = (f"{100 * found['probes'][name]:.1f}" if name in found["probes"] else "·" for name in names)
            baseline = f"{100 * found['baseline']:.1f} ± {100 * found['standard_error']:.1f}"
            rows.append((task, kind, str(found["questions"]), baseline, *probes, f"{100 * found['above']:+.1f}", FLAGS[found["flag"]]))
    caption = (
        "Fitted on half of the scenes, tested on the other half, and back; percent right, or MRA. The baseline is chance, or the best\n"
        "constant of the scale and unit, ± one standard error. above: the best probe of choices, or words for numbers, over the baseline;\n"
        "leak: by more than 5 points and more than 3 standard errors; maybe: by more than 5 points, which so few questions do not prove."
    )
    columns = ("task", "answer", "questions", "baseline", "majority / constant", "words", "options", "class prior", "above", "")
    return "Without the frames", caption, columns, rows
