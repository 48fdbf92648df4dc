"""The trainers: `enhancement`, `separation`, `adversarial` and `flow`, and the parts that they share."""
