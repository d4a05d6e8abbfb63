"""What makes a number on a data set untrustworthy: leaks between splits, bad masks, files that disagree."""
