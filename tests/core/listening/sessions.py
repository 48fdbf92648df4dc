"""Audio for listening tests, and a listener who takes them in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from audiozen_core.listening.ratings import checksum

SR = 16000
LEVELS = {"clean": 0.0, "noisy": 0.1, "alpha_net": 0.05, "beta_net": 0.02}


def write_folders(root: Path, count: int = 4, seconds: float = 0.3, sr: int = SR) -> None:
    """Writes `clean`, `noisy`, `alpha_net` and `beta_net` with `f0.wav`, …: tones with more or less noise."""
    generator = np.random.default_rng(0)
    for index in range(count):
        times = np.arange(round(seconds * sr)) / sr
        clean = 0.2 * np.sign(np.sin(2 * np.pi * (130 + 40 * index) * times))
        for name, level in LEVELS.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            noise = level * generator.standard_normal(len(times))
            soundfile.write(root / name / f"f{index}.wav", clean + noise, sr)


def key_of(page: Path) -> dict:
    """Returns the key of a page."""
    return json.loads(page.with_name(f"{page.stem}.key.json").read_text())


def write_ratings(folder: Path, key: dict, listener: str, rate, *, complete: bool = True) -> Path:
    """Writes a file of ratings as a page does. `rate(system, file, scale)` is a rating, or None for none."""
    scales = ("mushra",) if key["method"] == "mushra" else ("signal", "background", "overall")
    trials: dict[str, dict] = {}
    for token, of in key["stimuli"].items():
        values = {scale: rate(of["system"], of["file"], scale) for scale in scales}
        values = {scale: value for scale, value in values.items() if value is not None}
        if values:
            trials.setdefault(of["trial"], {})[token] = values
    every = {token: values for of in trials.values() for token, values in of.items()}
    content = {
        "kind": "audiozen ratings", "format": 1, "page": key["page"], "listener": listener, "complete": complete,
        "trials": [{"trial": trial, "ratings": of} for trial, of in trials.items()], "check": checksum(every),
    }  # fmt: skip
    file = folder / f"ratings_{key['page']}_{listener}.json"
    file.write_text(json.dumps(content))
    return file


class Listener:
    """A listener who knows the key, and rates each system as `opinions` says: by system, by scale."""

    def __init__(self, page, html: Path, opinions, name="Ann O'Hara"):
        self.page, self.html, self.opinions, self.name = page, html, opinions, name
        self.stimuli = key_of(html)["stimuli"]
        self.errors = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def begin(self, shot=lambda name: None):
        """Opens the page, answers the questions and sets the volume."""
        page = self.page
        page.goto(self.html.as_uri())
        shot("welcome")
        page.get_by_role("button", name="Start").click()
        assert "Please enter a name" in page.locator("#who-error").inner_text()
        page.get_by_label("Your name or a pseudonym").fill(self.name)
        page.get_by_label("headphones or earphones").check()
        page.get_by_role("button", name="Start").click()
        shot("volume")
        comfortable = page.get_by_role("button", name="The volume is comfortable")
        assert comfortable.is_disabled()
        page.keyboard.press("Space")  # the button has the focus
        page.wait_for_selector("#volume-next:not([disabled])")
        comfortable.click()

    def where(self):
        """Returns the title of the step."""
        return self.page.locator("#where").inner_text()

    def plan(self):
        """Returns the trials in the order of this listener."""
        return self.page.evaluate(
            """(name) => {
              const test = JSON.parse(document.getElementById("test").textContent);
              return Order.plan(test, Order.hash(`${test.page}/${name}`));
            }""",
            self.name,
        )

    def opinion(self, token, scale):
        """Returns the rating of a recording; of one in the training, the lowest."""
        return self.opinions[self.stimuli[token]["system"]][scale] if token in self.stimuli else 1

    def rate_side_by_side(self, trial, shot=lambda name: None):
        """Takes a trial of MUSHRA with the keyboard, and goes on."""
        page, following = self.page, self.page.locator("#trial .go")
        shot("mushra_begin")
        page.keyboard.press("Space")
        for place in range(len(trial["stimuli"]) + 1):
            page.keyboard.press(str(place))
            page.wait_for_function(
                "(place) => !document.querySelector('#trial .missing').textContent.includes(place ? "
                "`listen to ${String.fromCharCode(64 + place)}` : 'the reference')",
                arg=place,
            )
        page.wait_for_selector(".hear.unheard", state="detached")
        for place, token in enumerate(trial["stimuli"]):
            assert following.is_disabled()
            page.get_by_label(f"Rating of stimulus {'ABCDEFGH'[place]}").fill(str(self.opinion(token, "mushra")))
        shot("mushra_end")
        following.click()

    def rate_one(self, trial, shot=lambda name: None):
        """Takes a trial of P.835 with the keyboard, and goes on."""
        page, following = self.page, self.page.locator("#trial .go")
        shot("p835_begin")
        for place, scale in enumerate(trial["scales"]):
            assert following.is_disabled()
            page.wait_for_selector(f"#trial fieldset:nth-child({place + 1})[disabled]")
            page.keyboard.press("Space")  # the player has the focus
            page.wait_for_selector(f"#trial fieldset:nth-child({place + 1}):not([disabled])")
            if place == 1:
                shot("p835_middle")
            page.keyboard.press(str(self.opinion(trial["stimuli"][0], scale)))
        shot("p835_end")
        page.keyboard.press("Enter")

    def download(self, button="Save my ratings"):
        """Returns the ratings that the page saves."""
        with self.page.expect_download() as waiting:
            self.page.get_by_role("button", name=button).click()
        file = self.html.parent / waiting.value.suggested_filename
        waiting.value.save_as(file)
        return file
