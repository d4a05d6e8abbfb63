"""The gate: runs in one verdict, against a committed reference or another revision on the same machine."""

from bench.gate.against import write_comment
from bench.gate.command import against_revision, choose_reference, judge_disk, judge_runs, promote
from bench.gate.reference import Reference, RunFacts, read_reference, run_facts, write_reference
from bench.gate.terms import judge
from bench.gate.verdict import Verdict
