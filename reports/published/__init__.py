"""Printed numbers: the ledger of the SDSeg paper and of later ones, what cannot be in it, and its rows in tables."""

from reports.published.ledger import SDSEG_PAPER, Published, numbers_of_paper, read_ledger, read_ledgers, same_dataset
from reports.published.lint import Finding, lint
from reports.published.rows import published_rows
