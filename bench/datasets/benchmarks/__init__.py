"""The five data sets of the SDSeg paper, as their owners distribute them."""

from bench.datasets.benchmarks.benchmark import Benchmark, Cut, RawCase
from bench.datasets.benchmarks.polyps import CVC_CLINICDB, KVASIR_SEG
from bench.datasets.benchmarks.refuge2 import REFUGE2
from bench.datasets.benchmarks.volumes import BTCV, STS3D

BENCHMARKS = {b.name: b for b in (CVC_CLINICDB, KVASIR_SEG, REFUGE2, BTCV, STS3D)}

__all__ = ["BENCHMARKS", "Benchmark", "Cut", "RawCase"]
