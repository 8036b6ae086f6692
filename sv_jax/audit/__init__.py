"""What a dataset holds, how far a guess gets without looking, and pages that show it."""
