"""The folders of runs, read without torch: which there are, what each is doing, and what they have reached."""
