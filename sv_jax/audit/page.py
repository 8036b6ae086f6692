"""`sv-jax data inspect --html`: one page that needs nothing else, with the samples of every task and scale."""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from sv_jax.audit.overlay import WIDTH, overlay
from sv_jax.audit.questions import Asked
from sv_jax.audit.samples import Clip, answer, clips, shown_frames
from sv_jax.files import write_text
from sv_jax.inputs import marks
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA
from sv_jax.tasks.qa import LETTERS

STRIP = 128  # pixels: width of a frame of the film strip
STRIPPED = 12  # frames that it holds at most, evenly taken
TAG = re.compile(r"&lt;(semantic|scale)&gt;(.*?)&lt;/\1&gt;", re.DOTALL)


def write_page(path: str | Path, out: str | Path, asked: Sequence[Asked], tick: Callable[[int], None] = lambda done: None) -> None:
    """Write the page of these samples, which come by task, then scale; `tick(done)` after each."""
    cells = {cell: list(group) for cell, group in itertools.groupby(asked, lambda a: (a.qa.task, a.qa.scale))}
    tasks = list(dict.fromkeys(task for task, _ in cells))
    scales = [scale for scale in SCALES if any(cell[1] == scale for cell in cells)]
    pictures, done, sections = clips(path, asked), itertools.count(1), []
    for number, ((task, scale), group) in enumerate(cells.items()):
        cards = ""
        for a in group:
            cards += _card(a, next(pictures))
            tick(next(done))
        named = f'id="s{number}" data-task="{escape(task)}" data-scale="{scale}"'
        sections.append(f'<section {named}><h2>{escape(task)} <small>{scale}</small></h2><div class="cards">{cards}</div></section>')
    title = f"{escape(Path(path).resolve().name)}: {len(asked)} questions"
    buttons = _buttons("task", tasks) + _buttons("scale", scales)
    contents = _contents(cells, tasks, scales)
    write_text(out, PAGE.format(title=title, style=STYLE, buttons=buttons, contents=contents, sections="".join(sections), script=SCRIPT))


def _buttons(what: str, names: Sequence[str]) -> str:
    """A row of filters; none pressed shows all."""
    press = f'<button type="button" data-filter="{what}" aria-pressed="false"'
    row = "".join(f'{press} value="{escape(name)}">{escape(name)}</button>' for name in names)
    return f'<div class="filter"><b>{what}</b>{row}</div>'


def _contents(cells: dict, tasks: Sequence[str], scales: Sequence[str]) -> str:
    """Tasks by scales, each a link to its samples."""
    head = "".join(f"<th>{scale}</th>" for scale in scales)
    rows, number = "", {cell: n for n, cell in enumerate(cells)}
    for task in tasks:
        row = [(task, scale) for scale in scales]
        links = (f'<a href="#s{number[cell]}">{len(cells[cell])}</a>' if cell in cells else "·" for cell in row)
        rows += f"<tr><th>{escape(task)}</th>{''.join(f'<td>{link}</td>' for link in links)}</tr>"
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


def _card(a: Asked, clip: Clip) -> str:
    """One sample."""
    qa = a.qa
    drawn = marks.draw(clip.frames, qa.marks)
    pictures = ""
    for frame in shown_frames(qa):
        picture = f'<img src="{_webp(drawn[frame])}" alt="frame {frame + 1}">'
        if (over := overlay(qa, clip, frame)) is not None:
            picture += f'<img class="over" src="{_inline(over, "PNG")}" alt="outlines of the objects">'
        pictures += f'<div class="picture">{picture}</div>'
    kept = np.unique(np.linspace(0, len(drawn) - 1, min(len(drawn), STRIPPED)).round().astype(int))
    strip = "".join(
        f'<img class="{"needed" if qa.frames and i in qa.frames else ""}" src="{_webp(drawn[i], STRIP)}" alt="" title="frame {i + 1}">'
        for i in kept
    )
    options = "".join(
        f'<li class="{"right" if letter == qa.answer else ""}"><b>{letter}</b> {escape(option)}</li>'
        for letter, option in zip(LETTERS, qa.options or (), strict=False)
    )
    said = f'<p class="reasoning">{_coloured(qa)}</p>' if qa.reasoning else ""
    return (
        f'<article>{pictures}<div class="strip">{strip}</div><p class="question">{escape(qa.question)}</p>'
        f'{f"<ul>{options}</ul>" if options else ""}<p class="answer">{escape(answer(qa))}</p>{said}{_facts(a, clip)}</article>'
    )


def _coloured(qa: QA) -> str:
    """The target text with its tags as colours, the answer's too."""
    text = TAG.sub(r'<span class="\1" title="\1">\2</span>', escape(qa.reasoning))
    return f'{text} <span class="said" title="answer">{escape(qa.answer)}</span>'


def _facts(a: Asked, clip: Clip) -> str:
    """What is known of the clip, in one line."""
    count, height, width = clip.frames.shape[:3]
    facts = [a.qa.id, a.qa.scene_id, a.split, f"{count} frames of {width} × {height}", f"{clip.fps:g} fps"]
    if clip.poses is not None:
        facts.append(f"camera {clip.poses[0, 2, 3]:.3g} m above the ground")
    if a.qa.frames:
        facts.append(f"needs frames {', '.join(str(i + 1) for i in a.qa.frames)}")
    if a.qa.answer_si is not None:
        facts.append(f"exact answer {a.qa.answer_si:.4g} (SI)")
    return f'<p class="facts">{" · ".join(map(escape, facts))}</p>'


def _webp(frame: np.ndarray, width: int = WIDTH) -> str:
    """A data URL of u8 [H, W, 3], at most `width` wide."""
    from PIL import Image

    image = Image.fromarray(frame)
    if image.width > width:
        image = image.resize((width, round(width * image.height / image.width)), Image.Resampling.LANCZOS)
    return _inline(image, "WEBP", quality=85)


def _inline(image, format: str, **options) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><header><h1>{title}</h1>{buttons}<p class="hint">Hold the pointer on a picture to see it as the model does: with the marks of the
question alone. Underlined frames are those that the question needs.</p></header>
<nav>{contents}</nav><main>{sections}</main><script>{script}</script></body></html>
"""
STYLE = """
:root { color-scheme: light dark; --ground: light-dark(#f4f5f7, #14161a); --card: light-dark(#fff, #1e2127);
  --ink: light-dark(#1c2025, #e6e8eb); --soft: light-dark(#68707a, #98a0aa); --line: light-dark(#dde1e6, #31363e);
  --right: light-dark(#d8f3df, #173d24); --accent: light-dark(#1f6feb, #6cb0ff); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header { position: sticky; top: 0; z-index: 2; padding: .6rem 1.2rem; background: var(--ground); border-bottom: 1px solid var(--line); }
h1 { margin: 0 0 .3rem; font-size: 1.15rem; }
.filter { display: flex; flex-wrap: wrap; gap: .3rem; align-items: center; margin: .25rem 0; }
.filter b { width: 3rem; color: var(--soft); font-weight: 500; }
button { border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .7rem; background: var(--card); color: inherit; font: inherit;
  font-size: .85rem; cursor: pointer; }
button[aria-pressed=true] { background: var(--accent); border-color: var(--accent); color: light-dark(#fff, #10131a); }
.hint { margin: .3rem 0 0; color: var(--soft); font-size: .85rem; }
nav, main { padding: .6rem 1.2rem; }
nav table { border-collapse: collapse; font-size: .85rem; }
nav th { text-align: left; font-weight: 500; color: var(--soft); padding: .1rem .8rem .1rem 0; }
nav td { padding: .1rem .8rem .1rem 0; }
a { color: var(--accent); text-decoration: none; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(620px, 100%), 1fr)); gap: 0 1.5rem; align-items: start; }
section { scroll-margin-top: 10rem; }
h2 { font-size: 1.05rem; margin: 1.4rem 0 .6rem; }
h2 small { font-weight: 500; color: var(--soft); border: 1px solid var(--line); border-radius: 1rem; padding: .05rem .6rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1rem; align-items: start; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
article > p, article > ul { margin: .5rem .8rem; }
.picture { position: relative; }
.picture + .picture { margin-top: 2px; }
.picture img { display: block; width: 100%; }
.picture .over { position: absolute; inset: 0; height: 100%; transition: opacity .15s; }
.picture:hover .over { opacity: 0; }
.strip { display: flex; gap: 2px; margin-top: 2px; overflow-x: auto; }
.strip img { flex: 1 1 0; min-width: 56px; max-width: 25%; border-bottom: 3px solid transparent; }
.strip .needed { border-color: var(--accent); }
.question { font-weight: 600; white-space: pre-line; }
ul { list-style: none; padding: 0; }
li { padding: .15rem .5rem; border-radius: .3rem; }
li b { display: inline-block; width: 1.3rem; color: var(--soft); }
.right { background: var(--right); }
.answer { font-size: 1.1rem; font-weight: 600; color: var(--accent); white-space: pre-line; }
.reasoning { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
.reasoning span { border-radius: .3rem; padding: 0 .3rem; color: var(--ink); }
.semantic { background: light-dark(#ffe3c2, #5a3a12); }
.scale { background: light-dark(#d9e4ff, #23386b); }
.said { background: var(--right); }
.facts { font-size: .75rem; color: var(--soft); border-top: 1px solid var(--line); padding-top: .4rem; }
"""
SCRIPT = """
const pressed = what => [...document.querySelectorAll(`button[data-filter=${what}][aria-pressed=true]`)].map(b => b.value);
document.querySelectorAll('button[data-filter]').forEach(button => button.addEventListener('click', () => {
  button.setAttribute('aria-pressed', button.getAttribute('aria-pressed') !== 'true');
  const tasks = pressed('task'), scales = pressed('scale');
  document.querySelectorAll('section').forEach(s => {
    s.hidden = (tasks.length && !tasks.includes(s.dataset.task)) || (scales.length && !scales.includes(s.dataset.scale));
  });
}));
"""
