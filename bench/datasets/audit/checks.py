"""The audit: every case looked at once, then what only all of them together show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from bench import progress
from bench.datasets.audit.kinds import KINDS, Trouble
from bench.datasets.audit.looking import Look
from bench.datasets.audit.near import FAR, SAME, near_duplicates
from bench.datasets.audit.subject import Splits, Subject
from bench.datasets.audit.values import judge_values
from bench.datasets.splitting import SPLITS

_NAMED = 3  # cases that a line names


@dataclass(frozen=True)
class Pair:
    """Two cases that are nearly the same, and the splits that they lie in, by manifest."""

    cases: tuple[str, str]
    correlation: float
    splits: Mapping[str, tuple[str, str]]

    @property
    def leaks(self) -> bool:
        """Whether they lie in two splits of any manifest."""
        return any(a != b for a, b in self.splits.values())


@dataclass(frozen=True)
class Audit:
    """What was found: `troubles` in the order of `KINDS`, `pairs` the worst first."""

    name: str
    cases: int
    counts: Mapping[str, Mapping[str, int]]  # cases by manifest and split
    troubles: Sequence[Trouble]
    pairs: Sequence[Pair]

    @property
    def passed(self) -> bool:
        """Whether nothing makes a number untrustworthy."""
        return not any(KINDS[trouble.kind].finding for trouble in self.troubles)

    def seen(self) -> dict[str, int]:
        """By manifest, how many test cases have a near-duplicate in training."""
        cases: dict[str, set[str]] = {name: set() for name in self.counts}
        for pair in self.pairs:
            for name, splits in pair.splits.items():
                if set(splits) == {"train", "test"}:
                    cases[name].add(pair.cases[splits.index("test")])
        return {name: len(some) for name, some in cases.items()}

    def groups(self) -> dict[tuple[str, str], list[Trouble]]:
        """Troubles by kind and manifest."""
        together: dict[tuple[str, str], list[Trouble]] = defaultdict(list)
        for trouble in self.troubles:
            together[trouble.kind, trouble.split].append(trouble)
        return dict(together)

    def lines(self) -> list[str]:
        """One line for each kind and manifest: how many, and the first names."""
        splits = (f"{name}: {' '.join(f'{n} {s}' for s, n in counts.items())}" for name, counts in self.counts.items())
        lines = [f"{self.name}: {self.cases} cases; split {'; '.join(splits)}"]
        for (kind, split), troubles in self.groups().items():
            word = "FINDING" if KINDS[kind].finding else "remark "
            lines.append(f"{word} {heading(kind, split, len(troubles))}: {_first(troubles)}")
            if kind == "leak":
                lines[-1] += f"; {self.seen()[split]} of {self.counts[split]['test']} test cases have one in training"
        return lines

    def facts(self) -> dict[str, Any]:
        """Everything as plain values, for `audit.json`."""
        groups = [
            {
                "kind": kind,
                "finding": KINDS[kind].finding,
                "text": KINDS[kind].text,
                "split": split or None,
                "count": len(troubles),
                "cases": [{"case": t.case, "text": t.text} for t in troubles],
            }
            for (kind, split), troubles in self.groups().items()
        ]
        pairs = [
            {"cases": p.cases, "correlation": round(p.correlation, 4), "splits": p.splits, "leaks": p.leaks}
            for p in self.pairs
        ]
        how = {"hash_bits_that_may_differ": FAR, "correlation_above": SAME}
        base = {"name": self.name, "cases": self.cases, "passed": self.passed, "near_duplicates": how}
        splits = {name: {**counts, "test_seen_in_train": self.seen()[name]} for name, counts in self.counts.items()}
        return {**base, "splits": splits, "troubles": groups, "pairs": pairs}


def heading(kind: str, split: str, count: int) -> str:
    """What a group of troubles is, in words."""
    return f"{count} {KINDS[kind].text}" + (f", split {split}" if split else "")


def _first(troubles: Sequence[Trouble]) -> str:
    named = [f"{t.case} ({t.text})" if t.text else t.case for t in troubles[:_NAMED]]
    return ", ".join(named) + (", ..." if len(troubles) > _NAMED else "")


def audit(subject: Subject) -> Audit:
    """Look at every case of a subject, and at all of them together."""
    looks = []
    for done, case in enumerate(subject.cases, 1):
        looks.append(subject.look(case))
        progress.report("auditing cases", done, len(subject.cases))
    pairs = _pairs(looks, subject.split_of)
    troubles = [
        *subject.whole,
        *(trouble for look in looks for trouble in look.troubles),
        *judge_values(looks, subject.masks, subject.known),
        *_same_content(looks, subject.split_of),
        *(trouble for pair in pairs for trouble in _near(pair)),
        *_straddling(subject),
    ]
    order = list(KINDS)
    counts = {name: {s: list(of.values()).count(s) for s in SPLITS} for name, of in subject.split_of.items()}
    troubles.sort(key=lambda trouble: order.index(trouble.kind))
    return Audit(subject.name, len(subject.cases), counts, troubles, pairs)


def _pairs(looks: Sequence[Look], split_of: Splits) -> list[Pair]:
    """Near-duplicates: those across splits first, then by correlation."""
    # By the number of planes: pictures, and volumes.
    seen: dict[int, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for look in looks:
        if look.grey is not None:
            seen[len(look.grey)].append((look.case, look.grey))
    pairs = []
    for some in seen.values():
        for a, b, correlation in near_duplicates([grey for _, grey in some]):
            cases = some[a][0], some[b][0]
            pairs.append(Pair(cases, correlation, {n: (of[cases[0]], of[cases[1]]) for n, of in split_of.items()}))
    return sorted(pairs, key=lambda pair: (not pair.leaks, -pair.correlation))


def _near(pair: Pair) -> Iterator[Trouble]:
    for name, (a, b) in pair.splits.items():
        where = f"{a} and {b}, " if a != b else ""
        said = f"{where}correlation {pair.correlation:.2f}"
        yield Trouble("leak" if a != b else "near", " and ".join(pair.cases), said, name)


def _same_content(looks: Sequence[Look], split_of: Splits) -> Iterator[Trouble]:
    by_content: dict[str, list[str]] = defaultdict(list)
    for look in looks:
        if look.content:
            by_content[look.content].append(look.case)
    for cases in by_content.values():
        for a, b in combinations(cases, 2):
            for name, of in split_of.items():
                across = of[a] != of[b]
                kind = "same content across splits" if across else "same content"
                yield Trouble(kind, f"{a} and {b}", f"{of[a]} and {of[b]}" if across else of[a], name)


def _straddling(subject: Subject) -> Iterator[Trouble]:
    for name, group_of in subject.group_of.items():
        splits: dict[str, set[str]] = defaultdict(set)
        for case, group in group_of.items():
            splits[group].add(subject.split_of[name][case])
        for group, some in splits.items():
            if len(some) > 1:
                yield Trouble("straddling", group, ", ".join(s for s in SPLITS if s in some), name)
