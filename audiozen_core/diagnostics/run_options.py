"""The options of `audiozen run` for messages, with the equivalent arguments in Python."""

from __future__ import annotations

RESUME = "`--resume` (in Python `resume=True`)"
ALLOW_DRIFT = "`--allow-drift` (in Python `allow_drift=True`)"
CKPT_PATH = '`--ckpt-path PATH` (in Python `ckpt_path="PATH"`)'
CKPT_PATH_LATEST = '`--ckpt-path latest` (in Python `ckpt_path="latest"`)'
FINETUNE = '`-M finetune` (in Python `modes=["finetune"]`)'
WEIGHTS = '`--weights NAME` (in Python `weights="NAME"`)'
