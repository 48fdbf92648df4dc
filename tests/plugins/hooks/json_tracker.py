"""A tracker that writes a JSON line for everything that it is told: what a subclass of `Tracker` is given."""

import json
from pathlib import Path

from audiozen_plugins.hooks.tracker import Tracker


class JsonTracker(Tracker):
    name, title = "json", "the JSON tracker"

    def __init__(self, folder, fails_at=""):
        super().__init__()
        self.folder, self.fails_at = Path(folder), fails_at

    def _add(self, what, **values):
        if what == self.fails_at:
            raise ConnectionError("the server is away")
        with self.file.open("a") as file:
            file.write(json.dumps({"what": what, **values}) + "\n")

    def open(self, trainer, record, config):
        identity = record or f"record_{len(list(self.folder.glob('*.jsonl')))}"
        self.file = self.folder / f"{identity}.jsonl"
        self._add("open", continued=bool(record), config=dict(config))
        return identity

    def log_scalars(self, scalars, step, epoch):
        self._add("scalars", scalars=scalars, step=step, epoch=epoch)

    def log_text(self, file, text):
        self._add("text", file=file, text=text)

    def log_note(self, name, value):
        self._add("note", name=name, value=value)

    def log_sample(self, sample, audio, sheet):
        assert all(path.is_file() for path in (*audio.values(), sheet))
        self._add("sample", id=sample.id, epoch=sample.epoch, audio=list(audio), sheet=sheet.name)

    def close(self, ending):
        self._add("close", kind=ending.kind)
