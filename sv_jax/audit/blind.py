"""How far a guess gets without the frames: probes fitted on half of the scenes answer the questions of the other half, and back.

A probe is a function `(train, test) -> answers`, of questions of one task and answer type. Choices are held against chance, numbers
against the best constant of their scale and unit.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from sv_jax.audit.facts import option_numbers
from sv_jax.audit.questions import kind, objects, template
from sv_jax.rewards.answers import mra
from sv_jax.rewards.constant import best_constant
from sv_jax.tasks import QA
from sv_jax.tasks.qa import LETTERS

MARGIN = 0.05  # above chance, or above the constant's MRA, from which a task is flagged
ERRORS = 3  # standard errors above which that is no accident: with four probes and many tasks, two would cry wolf
PROBED = 10_000  # questions of a task, evenly taken: more would narrow the standard error below half a point
FEW = 3  # objects of a class that make a prior

Probe = Callable[[Sequence[QA], Sequence[QA]], list]


def blind(qas: Sequence[QA], seed: int = 0) -> dict[str, dict]:
    """task -> for "choice" and "number", where it has such: the number of `questions`, the `baseline` (chance, or the constant's MRA), the
    mean score of each probe in `probes`, the `standard_error` of the comparison, and `flag`: "leak", "maybe" (above the margin, but within
    the error) or None. Tasks whose questions come from a single scene
    are left out, and choices without options."""
    first = _first_half(qas, seed)
    found: dict[str, dict] = {}
    for task in sorted({qa.task for qa in qas}):
        for answer_type, compare in (("choice", _choices), ("number", _numbers)):
            cell = [qa for qa in qas if qa.task == task and qa.answer_type == answer_type and (answer_type == "number" or qa.options)]
            cell = cell[:: 1 + len(cell) // PROBED]
            halves = [[qa for qa in cell if (qa.scene_id in first) == side] for side in (True, False)]
            if all(halves):
                found.setdefault(task, {})[answer_type] = compare(*halves)
    return found


def _first_half(qas: Sequence[QA], seed: int) -> set[str]:
    """Half of the scenes of each scale."""
    rng, first = np.random.default_rng(seed), set()
    for scale in sorted({qa.scale for qa in qas}):
        scenes = sorted({qa.scene_id for qa in qas if qa.scale == scale})
        first.update(scenes[i] for i in rng.permutation(len(scenes))[: len(scenes) // 2])
    return first


def _choices(a: Sequence[QA], b: Sequence[QA]) -> dict:
    tested = [*b, *a]
    chance = np.array([1 / len(qa.options) for qa in tested])
    said = {name: [*probe(a, b), *probe(b, a)] for name, probe in CHOICE.items()}
    probes = {name: float(np.mean([x == qa.answer for x, qa in zip(answers, tested, strict=True)])) for name, answers in said.items()}
    error = float(np.sqrt(np.mean(chance * (1 - chance)) / len(tested)))  # binomial
    return _report(tested, float(chance.mean()), probes, error, max(probes.values()))


def _numbers(a: Sequence[QA], b: Sequence[QA]) -> dict:
    tested = [*b, *a]
    said = {name: [*probe(a, b), *probe(b, a)] for name, probe in NUMBER.items()}
    scores = {name: np.array([mra(x, float(qa.answer)) for x, qa in zip(values, tested, strict=True)]) for name, values in said.items()}
    probes = {name: float(values.mean()) for name, values in scores.items()}
    error = float(np.std(scores["words"] - scores["constant"]) / np.sqrt(len(tested)))
    # the class of an object may be seen, so its prior is told but not held against the data
    return _report(tested, probes["constant"], probes, error, probes["words"])


def _report(tested: Sequence[QA], baseline: float, probes: dict[str, float], error: float, best: float) -> dict:
    above = best - baseline
    flag = None if above <= MARGIN else "leak" if above > ERRORS * error else "maybe"
    return {"questions": len(tested), "baseline": baseline, "probes": probes, "standard_error": error, "above": above, "flag": flag}


# Probes of choices: letters


def majority(train: Sequence[QA], test: Sequence[QA]) -> list[str]:
    """The commonest letter."""
    return [Counter(qa.answer for qa in train).most_common(1)[0][0]] * len(test)


def words(train: Sequence[QA], test: Sequence[QA]) -> list[str]:
    """TF-IDF of the words of question and options, each option's also with its letter; logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if len({qa.answer for qa in train}) == 1:
        return majority(train, test)
    vectors = TfidfVectorizer(analyzer=_words_and_letters, sublinear_tf=True)
    fitted = LogisticRegression(C=10, max_iter=300).fit(vectors.fit_transform(train), [qa.answer for qa in train])
    scores = fitted.predict_proba(vectors.transform(test))
    open_to = np.array([[letter in LETTERS[: len(qa.options)] for letter in fitted.classes_] for qa in test])
    return list(fitted.classes_[np.where(open_to, scores, -1).argmax(1)])


def options(train: Sequence[QA], test: Sequence[QA]) -> list[str]:
    """One option at a time: how likely it is right by its words, alone and with those of the question, its place and its length."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(analyzer=lambda tokens: tokens, sublinear_tf=True)
    rows, right = [tokens for qa in train for tokens in _options(qa)], [x for qa in train for x in _truth(qa)]
    fitted = LogisticRegression(C=10, max_iter=300).fit(vectors.fit_transform(rows), right)
    scores = iter(fitted.decision_function(vectors.transform([tokens for qa in test for tokens in _options(qa)])))
    return [LETTERS[int(np.argmax([next(scores) for _ in qa.options]))] for qa in test]


def option_prior(train: Sequence[QA], test: Sequence[QA]) -> list[str]:
    """How often an option of this class was right under this template."""
    seen, hits = Counter(), Counter()
    for qa in train:
        for option, right in zip(qa.options, _truth(qa), strict=True):
            seen[template(qa), kind(option)] += 1
            hits[template(qa), kind(option)] += right

    def prior(qa: QA, option: str) -> float:
        key = template(qa), kind(option)
        return (hits[key] + 2 / len(qa.options)) / (seen[key] + 2)  # as if two had been seen at chance

    return [LETTERS[int(np.argmax([prior(qa, option) for option in qa.options]))] for qa in test]


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _words_and_letters(qa: QA) -> list[str]:
    question = _tokens(qa.question)
    pairs = [f"{a} {b}" for a, b in zip(question, question[1:], strict=False)]
    placed = [f"{letter} {word}" for letter, option in zip(LETTERS, qa.options, strict=False) for word in _tokens(option)]
    return [*question, *pairs, *placed, *(word for option in qa.options for word in _tokens(option)), f"{len(qa.options)} options"]


def _options(qa: QA) -> list[list[str]]:
    """Tokens of each option."""
    asked, lengths, numbers = set(_tokens(qa.question)), sorted(map(len, qa.options)), option_numbers(qa.options)
    rows = []
    for i, option in enumerate(qa.options):
        own = _tokens(option)
        tokens = [*own, *(f"{q} & {word}" for q in asked for word in own), f"place {i}", f"length {lengths.index(len(option))}"]
        if numbers is not None:
            tokens.append(f"rank {sorted(numbers).index(numbers[i])} of {len(numbers)}")
        rows.append(tokens)
    return rows


def _truth(qa: QA) -> list[bool]:
    return [letter == qa.answer for letter in LETTERS[: len(qa.options)]]


# Probes of numbers


def constant(train: Sequence[QA], test: Sequence[QA]) -> list[float]:
    """The best constant of the scale and unit."""
    return _by_key(train, test, lambda qa: ())


def class_prior(train: Sequence[QA], test: Sequence[QA]) -> list[float]:
    """The best constant of the scale, unit and classes of objects."""
    return _by_key(train, test, lambda qa: tuple(sorted(map(kind, objects(qa)))))


def _by_key(train: Sequence[QA], test: Sequence[QA], key: Callable[[QA], tuple]) -> list[float]:
    groups: dict[tuple, list[float]] = defaultdict(list)
    for qa in train:
        for group in {(qa.scale, qa.unit, *key(qa)), (qa.scale, qa.unit), ()}:
            groups[group].append(float(qa.answer))
    best = {group: best_constant(values)[0] for group, values in groups.items() if len(values) >= FEW or group == ()}
    return [best.get((qa.scale, qa.unit, *key(qa)), best.get((qa.scale, qa.unit), best[()])) for qa in test]


def words_number(train: Sequence[QA], test: Sequence[QA]) -> list[float]:
    """TF-IDF of the question's words, its scale and unit; ridge regression of log10, or of the number where some are not above 0."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    values = np.array([float(qa.answer) for qa in train])
    positive = (values > 0).all()
    vectors = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    fitted = Ridge(alpha=0.3).fit(vectors.fit_transform(map(_said, train)), np.log10(values) if positive else values)
    guesses = fitted.predict(vectors.transform(map(_said, test)))
    return list(10**guesses if positive else guesses)


def _said(qa: QA) -> str:
    return f"{qa.question.lower()} scale={qa.scale} unit={qa.unit}"


CHOICE: dict[str, Probe] = {"majority": majority, "words": words, "options": options, "class prior": option_prior}
NUMBER: dict[str, Probe] = {"constant": constant, "words": words_number, "class prior": class_prior}
