// Players that switch between the recordings of one moment without a gap.
//
// All recordings of a clip play at the same time, and all but one are muted. <audio> elements would have to seek at each
// switch, which takes long enough to hear a gap.
const Players = (() => {
  const FADE = 0.008; // seconds; a faster switch would be heard as a click
  let context;
  let playing = null;
  let last = null; // the player whose keys work while nothing has the focus

  const clock = (seconds) => {
    const tenths = Math.round(seconds * 10);
    return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
  };

  const bytes = (address) => Uint8Array.from(atob(address.slice(address.indexOf(",") + 1)), (char) => char.charCodeAt(0));

  class Player {
    constructor(root) {
      this.root = root;
      this.seconds = Number(root.dataset.seconds);
      this.tracks = [...root.querySelectorAll(".track")];
      this.choices = [...root.querySelectorAll(".systems input")];
      this.button = root.querySelector(".play");
      this.seek = root.querySelector(".seek");
      this.time = root.querySelector(".time");
      this.loop = root.querySelector(".loop");
      this.level = root.querySelector(".level");
      this.region = [0, this.seconds]; // the part that is played, in seconds
      this.position = 0;
      this.sources = null;
      this.buffers = null;
      this.cursors = this.tracks.map((track) => track.querySelector(".cursor"));
      root.querySelector(".player").hidden = false;
      root.classList.add("joined");
      for (const audio of root.querySelectorAll("audio")) audio.hidden = true;
      this.button.addEventListener("click", () => this.toggle());
      this.seek.addEventListener("input", () => this.moveTo(Number(this.seek.value)));
      this.loop?.addEventListener("change", () => this.applyLoop());
      this.level?.addEventListener("change", () => this.applyGains());
      for (const choice of this.choices) choice.addEventListener("change", () => this.choose(Number(choice.value)));
      this.tracks.forEach((track, index) => {
        track.querySelector(".picture")?.addEventListener("click", (event) => {
          const box = event.currentTarget.getBoundingClientRect();
          this.choose(index);
          this.moveTo(((event.clientX - box.left) / box.width) * this.seconds);
          if (!this.sources) this.play();
        });
      });
      root.addEventListener("keydown", (event) => this.onKey(event));
      for (const kind of ["click", "focusin"]) root.addEventListener(kind, () => { last = this; });
      this.choose(Math.max(0, this.choices.findIndex((choice) => choice.checked)));
    }

    get chosen() { return this.index; }
    get isLooping() { return this.loop?.checked ?? false; }
    get isPlaying() { return this.sources !== null; }

    // The current position in the clip, in seconds.
    now() {
      if (!this.sources) return this.position;
      const passed = this.position + Math.max(0, context.currentTime - this.began);
      const [from, to] = this.region;
      return this.isLooping ? from + ((passed - from) % (to - from)) : Math.min(passed, to);
    }

    choose(index) {
      this.index = index;
      if (this.choices[index]) this.choices[index].checked = true;
      this.tracks.forEach((track, trackIndex) => track.classList.toggle("heard", trackIndex === index));
      this.applyGains();
    }

    gainOf(index) {
      if (index !== this.index) return 0;
      return this.level?.checked ? Number(this.tracks[index].dataset.gain) : 1;
    }

    applyGains() {
      this.gains?.forEach((gain, index) => gain.gain.setTargetAtTime(this.gainOf(index), context.currentTime, FADE / 3));
    }

    applyLoop() {
      // Restart at the current position, because `now` computes the position differently in a loop.
      if (this.sources) this.moveTo(this.now());
    }

    moveTo(seconds) {
      const restart = this.isPlaying;
      this.stop();
      this.position = Math.min(Math.max(this.region[0], seconds), this.region[1]);
      this.show();
      if (restart) this.play();
    }

    async load() {
      context ??= new AudioContext();
      const decode = (track) => context.decodeAudioData(bytes(track.querySelector("audio").src).buffer);
      this.buffers ??= Promise.all(this.tracks.map(decode));
      return this.buffers;
    }

    async play() {
      this.wanted = true;
      this.button.setAttribute("aria-busy", "true");
      let buffers;
      try {
        buffers = await this.load();
        await context.resume();
      } catch (error) {
        this.root.dispatchEvent(new CustomEvent("playererror", { bubbles: true, detail: error }));
        this.time.textContent = "this browser can't play the recording";
        return;
      } finally {
        this.button.removeAttribute("aria-busy");
      }
      if (!this.wanted || this.sources) return; // the button was pressed again during loading
      if (playing && playing !== this) playing.pause();
      playing = this;
      const [from, to] = this.region;
      if (this.position < from || this.position >= to - 0.01) this.position = from;
      this.began = context.currentTime + 0.02;
      this.gains = buffers.map((_, index) => {
        const gain = context.createGain();
        gain.gain.value = this.gainOf(index);
        gain.connect(Player.output());
        return gain;
      });
      this.sources = buffers.map((buffer, index) => {
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.loop = this.isLooping;
        [source.loopStart, source.loopEnd] = this.region;
        source.connect(this.gains[index]);
        source.start(this.began, this.position);
        return source;
      });
      this.button.textContent = "❚❚";
      this.button.setAttribute("aria-label", "Pause");
      this.root.classList.add("playing");
      const draw = () => {
        if (!this.sources) return;
        this.show();
        if (!this.isLooping && this.now() >= to) this.stop();
        else requestAnimationFrame(draw);
      };
      draw();
    }

    // Stops, and keeps the position.
    stop() {
      this.wanted = false;
      if (!this.sources) return;
      this.position = this.now();
      for (const source of this.sources) source.stop();
      for (const gain of this.gains) gain.disconnect();
      this.sources = this.gains = null;
      if (playing === this) playing = null;
      this.button.textContent = "▶";
      this.button.setAttribute("aria-label", "Play");
      this.root.classList.remove("playing");
      this.show();
    }

    pause() { this.stop(); }

    toggle() {
      if (this.isPlaying) this.stop();
      else this.play();
    }

    show() {
      const now = this.now();
      this.seek.value = now;
      this.seek.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${this.seconds.toFixed(1)} seconds`);
      this.time.textContent = `${clock(now)} / ${clock(this.seconds)}`;
      for (const cursor of this.cursors) {
        if (!cursor) continue;
        cursor.hidden = now === 0 && !this.isPlaying;
        cursor.style.left = `${(100 * now) / this.seconds}%`;
      }
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const inRange = event.target.type === "range";
      const onRadio = event.target.type === "radio";
      const press = {
        " ": () => event.target.type !== "checkbox" && event.target !== this.button && this.toggle(),
        ArrowLeft: () => !inRange && !onRadio && this.moveTo(this.now() - 1),
        ArrowRight: () => !inRange && !onRadio && this.moveTo(this.now() + 1),
        l: () => { if (!this.loop) return false; this.loop.checked = !this.loop.checked; this.applyLoop(); },
      }[event.key];
      const number = Number(event.key);
      if (number >= 1 && number <= this.tracks.length) this.choose(number - 1);
      else if (!press || press() === false) return;
      event.preventDefault();
    }

    static output() {
      Player.sum ??= (() => {
        const sum = context.createGain();
        sum.connect(context.destination);
        return sum;
      })();
      return Player.sum;
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.target === document.body) last?.onKey(event);
  });

  const all = [...document.querySelectorAll("[data-clip]")].map((root) => new Player(root));
  return { Player, all, get context() { return context; }, get output() { return context && Player.output(); } };
})();
