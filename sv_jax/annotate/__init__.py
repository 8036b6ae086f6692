"""Own video to a dataset: specialists measure depth and masks, Eq. 5 aligns the depth, and the tasks ask about what was measured."""
