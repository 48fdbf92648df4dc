// A session: the form for the listener, the volume, the trials, and the ratings file.
{
  const test = JSON.parse(document.getElementById("test").textContent);
  const by = (id) => document.getElementById(id);
  const storageKey = `audiozen-listen-${test.page}`;
  const kind = "audiozen ratings";
  let session = null;
  let plan = [];
  let shown = null; // the trial on the screen

  // Some browsers give no local storage to a page that was opened as a file.
  const storage = (() => {
    try {
      localStorage.setItem(`${storageKey}-try`, "1");
      localStorage.removeItem(`${storageKey}-try`);
      return localStorage;
    } catch { return null; }
  })();

  const keep = () => {
    try { storage?.setItem(storageKey, JSON.stringify(session)); } catch { /* full; the listener can still save the file */ }
  };

  const step = (id) => {
    shown?.player.stop();
    for (const section of document.querySelectorAll(".step")) section.hidden = section.id !== id;
    by("progress").hidden = id !== "trial";
    scrollTo(0, 0);
  };

  const begin = (restored) => {
    session = restored;
    session.seed = Order.hash(`${test.page}/${session.listener}`);
    plan = Order.plan(test, session.seed);
    for (let index = 1; index < plan.length; index += 1) {
      plan[index].newOrder = test.method === "p835" && String(plan[index].scales) !== String(plan[index - 1].scales);
    }
    keep();
    if (session.step < 0) setVolume();
    else if (session.step < plan.length) showTrial();
    else end();
  };

  const name = () => {
    const plain = session.listener.normalize("NFKD").replace(/[^A-Za-z0-9-]+/g, "_").replace(/^_+|_+$/g, "");
    return `ratings_${test.page}_${plain || Order.hash(session.listener).toString(16)}.json`;
  };

  const content = () => {
    const lines = session.done.flatMap((trial) => Object.entries(trial.ratings).flatMap(([token, values]) =>
      Object.entries(values).map(([scale, value]) => `${token} ${scale} ${value}`)));
    return {
      kind, format: 1, page: test.page, method: test.method, listener: session.listener, device: session.device,
      complete: session.step >= plan.length, started: session.started, saved: new Date().toISOString(), seed: session.seed,
      browser: navigator.userAgent, step: session.step, trials: session.done,
      check: Order.hash(lines.sort().join("\n")).toString(16).padStart(8, "0"),
    };
  };

  const download = () => {
    const address = URL.createObjectURL(new Blob([`${JSON.stringify(content(), null, 1)}\n`], { type: "application/json" }));
    make("a", { href: address, download: name() }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  };

  // Shows the first form.
  const welcome = () => {
    step("welcome");
    by("storage").textContent = storage ? "" :
      "This browser can't remember your ratings: save what you have before you close the page.";
  };
  by("who").addEventListener("submit", (event) => {
    event.preventDefault();
    const listener = by("listener").value.trim();
    const device = document.querySelector("input[name=device]:checked")?.value;
    by("who-error").textContent = !listener ? "Please enter a name or a pseudonym." : !device ? "Please select what you are listening with." : "";
    if (!listener) by("listener").focus();
    if (listener && device) begin({ listener, device, started: new Date().toISOString(), step: -1, done: [], draft: null });
  });
  by("restore").addEventListener("click", () => by("restore-file").click());
  by("restore-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    try {
      const saved = JSON.parse(await file.text());
      if (saved.kind !== kind || !Array.isArray(saved.trials)) throw new Error("it is not a ratings file");
      if (!Number.isInteger(saved.step) || !saved.listener) throw new Error("a part of it is missing");
      if (saved.page !== test.page) throw new Error("it belongs to another page");
      begin({ listener: saved.listener, device: saved.device, started: saved.started, step: saved.step, done: saved.trials, draft: null });
    } catch (error) {
      by("who-error").textContent = `This file can't be used: ${error.message}.`;
    }
  });

  const setVolume = () => {
    step("volume");
    const root = document.querySelector("#volume .trial");
    const seconds = test.trials.find((trial) => trial.training).seconds;
    const player = new TrialPlayer(root, [test.volume], test.audio, seconds, () => {
      const heard = player.heard[0] >= player.enough;
      by("volume-next").disabled = !heard;
      by("volume-hint").hidden = heard;
    });
    shown = { player };
    player.button.focus();
    by("volume-next").onclick = () => { session.step = 0; keep(); showTrial(); };
  };

  const showTrial = () => {
    const trial = plan[session.step];
    const training = plan.filter((planned) => planned.training).length;
    const began = performance.now();
    step("trial");
    shown = (test.method === "mushra" ? Mushra : P835)(test, trial, session.draft, (ratings) => { session.draft = ratings; keep(); });
    const number = session.step - training + 1;
    const title = trial.training
      ? `Training${training > 1 ? ` ${session.step + 1} of ${training}` : ""}`
      : `Trial ${number} of ${plan.length - training}`;
    by("where").textContent = title;
    const bar = document.querySelector("#progress progress");
    [bar.max, bar.value] = [plan.length, session.step];
    by("trial").setAttribute("aria-label", title);
    by("trial").replaceChildren(shown.root);
    shown.next.addEventListener("click", () => {
      if (!trial.training) {
        session.done.push({
          trial: trial.id, order: trial.stimuli, ...(trial.scales && { scales: trial.scales }),
          ratings: structuredClone(shown.ratings()), seconds: Math.round((performance.now() - began) / 100) / 10,
        });
      }
      session.step += 1;
      session.draft = null;
      keep();
      if (session.step < plan.length) showTrial();
      else end();
    });
    shown.first.focus({ preventScroll: true });
  };

  const end = () => {
    step("end");
    shown = null;
    by("file").textContent = name();
    by("end-title").focus();
  };
  by("save").addEventListener("click", download);
  by("download").addEventListener("click", () => {
    download();
    by("saved").textContent = `Saved as ${name()} in your downloads folder. You can close this page.`;
  });
  by("again").addEventListener("click", () => {
    if (!confirm("Have you saved your ratings? This page forgets them.")) return;
    try { storage?.removeItem(storageKey); } catch { /* nothing was stored */ }
    session = null;
    by("saved").textContent = by("listener").value = "";
    welcome();
  });
  addEventListener("beforeunload", (event) => {
    if (session && !storage && session.done.length && session.step < plan.length) event.preventDefault();
  });

  let stored = null;
  try { stored = JSON.parse(storage?.getItem(storageKey) ?? "null"); } catch { /* start a new session */ }
  if (stored) begin(stored);
  else welcome();
}
