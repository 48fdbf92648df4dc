"""The trainer `enhancement`: its steps, the evaluation of each file by itself, and the parts of both."""
