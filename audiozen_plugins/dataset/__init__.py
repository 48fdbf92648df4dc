"""AudioZEN's data sets, and the collate function that they share."""
