"""AudioZEN's data sets, and their shared collate function."""
