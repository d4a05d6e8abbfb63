"""MedSegDiff V1 and V2 as released, with the release's faults under their own name and corrected by default."""
