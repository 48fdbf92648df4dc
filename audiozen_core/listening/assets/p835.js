// A trial of P.835: one recording, which is heard three times and rated on another scale each time.
const P835 = (test, trial, draft, changed) => {
  const root = document.getElementById("template-p835").content.firstElementChild.cloneNode(true);
  const [token] = trial.stimuli;
  const scales = trial.scales.map((name) => test.scales.find((scale) => scale.name === name));
  const ratings = { ...draft?.[token] };
  const next = root.querySelector(".go");
  const missing = root.querySelector(".missing");
  const attend = root.querySelector(".attend");
  let heardBefore = 0; // seconds, in the presentations that are over
  const unique = trial.id + token;

  const sets = scales.map((scale, place) => {
    const set = make("fieldset", { class: "card question", "aria-describedby": `${unique}-${scale.name}` },
      make("legend", {}, `${place + 1}. ${scale.label}`),
      make("p", { id: `${unique}-${scale.name}` }, scale.question),
      make("p", { class: "lead" }, `${scale.lead} …`));
    const choices = make("div", { class: "choices" });
    scale.words.forEach((word, index) => {
      const number = scale.high - index;
      const input = make("input", { type: "radio", name: `${unique}-${scale.name}`, value: number });
      input.checked = ratings[scale.name] === number;
      input.addEventListener("change", () => rate(place, number));
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
  // The end of a recording is often silent, so a listener may answer a moment before.
  const heardNow = () => player.heard[0] - heardBefore >= player.seconds * 0.95;

  const rate = (place, number) => {
    const isNew = !(scales[place].name in ratings);
    ratings[scales[place].name] = number;
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

  let told;
  const update = () => {
    const now = current();
    const ready = heardNow();
    sets.forEach((set, place) => {
      set.disabled = place > now || (place === now && !ready);
      set.classList.toggle("current", place === now);
    });
    next.disabled = now < scales.length;
    const scale = scales[now];
    const text = scale ? `Listen to the ${scale.name === "overall" ? "recording as a whole" : scale.label}` : "All rated";
    if (attend.textContent !== text) attend.textContent = text;
    const left = !scale ? "" : ready ? `Now rate it: ${scale.label}.` : "Listen to the end, then rate.";
    if (left !== told) missing.textContent = told = left;
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
        if (event.target.type === "radio") return; // it chooses
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
