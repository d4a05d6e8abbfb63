"""nnU-Net as itself: its own planning, training and prediction behind the two verbs of the harness."""
