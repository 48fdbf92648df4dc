// A MUSHRA trial: all recordings of a file, and the reference.
const Mushra = (test, trial, draft, changed) => {
  const root = document.getElementById("template-mushra").content.firstElementChild.cloneNode(true);
  const list = root.querySelector(".stimuli");
  const [scale] = test.scales;
  const ratings = {};
  const rows = trial.stimuli.map((token, index) => {
    const letter = String.fromCharCode(65 + index);
    const hear = make("button", { type: "button", class: "hear", "aria-pressed": "false", "aria-label": `Play stimulus ${letter}` }, letter);
    const slider = make("input", {
      type: "range", min: scale.low, max: scale.high, step: 1, value: (scale.low + scale.high) / 2,
      "aria-label": `Rating of stimulus ${letter}`,
    });
    const value = make("output", { class: "value", "aria-live": "off" }, "–");
    const row = make("li", { class: "stimulus unrated" }, hear, make("div", { class: "slider" }, slider), value);
    list.append(row);
    return { token, letter, hear, slider, value, row };
  });
  const reference = root.querySelector(".hear.reference");
  const buttons = [reference, ...rows.map((row) => row.hear)];
  const next = root.querySelector(".go");
  const missing = root.querySelector(".missing");

  const word = (number) => scale.words[Math.min(4, Math.floor((scale.high - number) / 20))];

  const rate = (row, number) => {
    ratings[row.token] = { [scale.name]: number };
    row.slider.value = number;
    row.row.classList.remove("unrated");
    row.value.textContent = number;
    row.slider.setAttribute("aria-valuetext", `${number}, ${word(number)}`);
    update();
  };

  const names = (open) => {
    const letters = open.map((row) => row.letter);
    return letters.length > 1 ? `${letters.slice(0, -1).join(", ")} and ${letters.at(-1)}` : letters[0];
  };

  let lastText;
  const update = () => {
    const unheard = rows.filter((row, index) => player.heard[index + 1] < player.enough);
    const unrated = rows.filter((row) => !(row.token in ratings));
    rows.forEach((row) => row.hear.classList.toggle("unheard", unheard.includes(row)));
    const parts = [];
    if (player.heard[0] < player.enough) parts.push("listen to the reference");
    if (unheard.length) parts.push(`listen to ${names(unheard)}`);
    if (unrated.length) parts.push(`rate ${names(unrated)}`);
    next.disabled = parts.length > 0;
    const text = parts.length ? `Still to do: ${parts.join("; ")}.` : "";
    if (text !== lastText) missing.textContent = lastText = text; // a screen reader announces each assignment
  };

  class MushraPlayer extends TrialPlayer {
    choose(index) {
      super.choose(index);
      buttons.forEach((button, number) => {
        button.setAttribute("aria-pressed", String(number === index));
        button.classList.toggle("main", number === index);
      });
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const number = event.key >= "0" && event.key <= "9" ? Number(event.key) : -1;
      if (number < 0) { super.onKey(event); return; }
      if (number > rows.length) return;
      this.choose(number);
      (number ? rows[number - 1].slider : reference).focus();
      event.preventDefault();
    }
  }

  root.querySelector(".training").hidden = !trial.training;
  const player = new MushraPlayer(root, [trial.reference, ...trial.stimuli], test.audio, trial.seconds, () => update());
  buttons.forEach((button, index) => button.addEventListener("click", () => {
    player.choose(index);
    if (!player.isPlaying) player.play();
  }));
  for (const row of rows) {
    row.slider.setAttribute("aria-valuetext", "not rated");
    row.slider.addEventListener("input", () => { rate(row, Number(row.slider.value)); changed(ratings); });
    // A click on the middle also counts as a rating. It causes no input event, because the thumb is already there.
    for (const kind of ["pointerup", "keydown"]) {
      row.slider.addEventListener(kind, (event) => {
        if (row.token in ratings || (kind === "keydown" && event.key !== "Enter")) return;
        rate(row, Number(row.slider.value));
        changed(ratings);
      });
    }
  }
  const bounds = root.querySelector(".bounds");
  const limit = (from, to) => {
    player.region = to - from >= 0.2 ? [from, to] : [0, trial.seconds];
    const isPart = to - from >= 0.2 && to - from < trial.seconds;
    bounds.querySelector(".all").disabled = !isPart;
    bounds.querySelector(".region").textContent = isPart ? `${from.toFixed(1)} to ${to.toFixed(1)} s` : "";
    player.moveTo(player.now());
  };
  bounds.querySelector(".from").addEventListener("click", () => {
    const now = player.now();
    limit(now, player.region[1] > now + 0.2 ? player.region[1] : trial.seconds);
  });
  bounds.querySelector(".to").addEventListener("click", () => {
    const now = player.now();
    limit(player.region[0] < now - 0.2 ? player.region[0] : 0, now);
  });
  bounds.querySelector(".all").addEventListener("click", () => limit(0, trial.seconds));
  for (const row of rows) if (draft?.[row.token]) rate(row, draft[row.token][scale.name]);
  update();
  return { root, player, next, first: player.button, ratings: () => ratings };
};
