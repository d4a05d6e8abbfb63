"""The gate: accuracy, stability, speed and memory of runs in one verdict, against a committed reference."""

from bench.gate.command import Promotion, choose_reference, judge_disk, judge_runs, promote
from bench.gate.reference import Reference, RunFacts, read_reference, run_facts, write_reference
from bench.gate.verdict import Verdict, judge
