// The player of a trial. It measures how long each recording was heard.
class TrialPlayer extends Players.Player {
  constructor(root, tokens, audio, seconds, onHeard) {
    const sources = root.querySelector(".sources");
    sources.replaceChildren(...tokens.map((token) => {
      const track = document.createElement("div");
      track.className = "track";
      const element = track.appendChild(document.createElement("audio"));
      element.preload = "none";
      element.src = `data:audio/flac;base64,${audio[token]}`;
      return track;
    }));
    root.dataset.seconds = seconds;
    root.querySelector(".seek").max = seconds;
    super(root);
    this.heard = tokens.map(() => 0);
    this.show();
    this.onHeard = onHeard; // set last, because the callback uses the player, which the caller only has after this call
  }

  choose(index) {
    this.count();
    super.choose(index);
  }

  // Adds the time since the last call to the recording that is playing.
  count() {
    if (!this.heard || !this.isPlaying) return;
    const now = Players.context.currentTime;
    const since = Math.max(this.counted ?? 0, this.began);
    this.heard[this.index] += Math.max(0, now - since);
    this.counted = now;
  }

  show() {
    super.show();
    this.count();
    this.onHeard?.();
  }

  stop() {
    this.count();
    super.stop();
  }

  // The minimum time in seconds to hear a recording before it can be rated: two seconds, or half of a short recording.
  get enough() { return Math.min(2, this.seconds / 2); }
}

// Makes an element: `make("p", {class: "hint"}, "text", child)`. Strings are inserted as text, not as HTML.
const make = (name, attributes, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
