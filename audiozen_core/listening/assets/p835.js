// A P.835 trial: one recording, which is heard three times. Each time, it is rated on a different scale.
const P835 = (test, trial, draft, changed) => {
  const root = document.getElementById("template-p835").content.firstElementChild.cloneNode(true);
  const [token] = trial.stimuli;
  const scales = trial.scales.map((name) => test.scales.find((scale) => scale.name === name));
  const ratings = { ...draft?.[token] };
  const next = root.querySelector(".go");
  const missing = root.querySelector(".missing");
  const attend = root.querySelector(".attend");
  let heardBefore = 0; // the seconds heard in earlier presentations
  const unique = trial.id + token;

  const sets = scales.map((scale, position) => {
    const set = make("fieldset", { class: "card question", "aria-describedby": `${unique}-${scale.name}` },
      make("legend", {}, `${position + 1}. ${scale.label}`),
      make("p", { id: `${unique}-${scale.name}` }, scale.question),
      make("p", { class: "lead" }, `${scale.lead} …`));
    const choices = make("div", { class: "choices" });
    scale.words.forEach((word, index) => {
      const number = scale.high - index;
      const input = make("input", { type: "radio", name: `${unique}-${scale.name}`, value: number });
      input.checked = ratings[scale.name] === number;
      input.addEventListener("change", () => rate(position, number));
      choices.append(make("label", {}, input, make("span", {}, make("b", {}, String(number)), ` ${word}`)));
    });
    set.append(choices);
    root.querySelector(".scales").append(set);
    return set;
  });

  const current = () => {
    const open = scales.findIndex((scale) => !(scale.name in ratings));
    return open < 0 ? scales.length : open;
  };
  // The end of a recording is often silent, so the listener can answer shortly before the end.
  const heardNow = () => player.heard[0] - heardBefore >= player.seconds * 0.95;

  const rate = (position, number) => {
    const isNew = !(scales[position].name in ratings);
    ratings[scales[position].name] = number;
    if (isNew) {
      player.stop();
      player.position = 0;
      heardBefore = player.heard[0];
      player.show();
    }
    changed({ [token]: ratings });
    update();
    if (!isNew) return;
    if (current() < scales.length) player.button.focus();
    else next.focus();
  };

  let lastText;
  const update = () => {
    const now = current();
    const ready = heardNow();
    sets.forEach((set, position) => {
      set.disabled = position > now || (position === now && !ready);
      set.classList.toggle("current", position === now);
    });
    next.disabled = now < scales.length;
    const scale = scales[now];
    const text = scale ? `Listen to the ${scale.name === "overall" ? "recording as a whole" : scale.label}` : "All rated";
    if (attend.textContent !== text) attend.textContent = text;
    const task = !scale ? "" : ready ? `Now rate it: ${scale.label}.` : "Listen to the end, then rate.";
    if (task !== lastText) missing.textContent = lastText = task;
  };

  class P835Player extends TrialPlayer {
    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const now = current();
      const number = event.key >= "1" && event.key <= "5" ? Number(event.key) : 0;
      if (number && now < scales.length && heardNow()) {
        sets[now].querySelector(`input[value="${number}"]`).checked = true;
        rate(now, number);
        event.preventDefault();
      } else if (event.key === " " && event.target !== this.button && event.target !== next) {
        if (event.target.type === "radio") return; // the space key selects the radio button
        this.toggle();
        event.preventDefault();
      }
    }
  }

  root.querySelector(".training").hidden = !trial.training;
  const notice = root.querySelector(".notice");
  notice.hidden = !trial.newOrder;
  notice.querySelector(".order").textContent = `${scales.map((scale) => scale.label).join(", then ")}.`;
  const player = new P835Player(root, [token], test.audio, trial.seconds, () => update());
  update();
  return { root, player, next, first: player.button, ratings: () => ({ [token]: ratings }) };
};
