// The charts of all runs. Each chart has its own data. All charts share the controls and the cursor.
const Charts = (() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const controls = document.getElementById("chart-controls");
  if (!controls) return { all: [] };
  const DASHES = { validate: [7, 4], noisy: [2, 4] };
  const WORDS = { validate: "valid.", step: "" };
  const sync = uPlot.sync("curves");
  const state = { smoothing: 0, log: false, x: "steps", hidden: new Set(), range: null };
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // An exponential moving average without a bias towards zero at the start, as in TensorBoard.
  const smooth = (values, weight) => {
    let sum = 0;
    let count = 0;
    return values.map((value) => {
      if (value === null) return null;
      sum = sum * weight + (1 - weight) * value;
      count += 1;
      return sum / (1 - weight ** count);
    });
  };

  const number = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(5)).toString().replace("-", "−"));

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.content = data[Number(figure.dataset.chart)];
      this.canvas = figure.querySelector(".canvas");
      this.values = figure.querySelector(".values");
      this.lines = this.content.lines;
      this.canvas.addEventListener("keydown", (event) => this.onKey(event));
      const table = figure.querySelector(".asTable");
      table.addEventListener("toggle", () => table.open && this.fillTable(table.querySelector(".table")), { once: false });
      this.draw();
      new ResizeObserver(() => {
        const width = this.canvas.clientWidth;
        if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: this.canvas.clientHeight });
        else if (!this.plot && width) this.draw();
      }).observe(this.canvas);
    }

    // The points of all lines on a common x axis. A value is undefined if the line has no point there, and null if its
    // value is not finite.
    table() {
      const xs = [...new Set(this.lines.flatMap((line) => line[state.x]))].sort((left, right) => left - right);
      const indexOf = new Map(xs.map((x, index) => [x, index]));
      const columns = this.lines.map((line) => {
        const column = new Array(xs.length).fill(undefined); // uPlot draws through undefined, and leaves a gap at null
        line[state.x].forEach((x, index) => { column[indexOf.get(x)] = line.values[index]; });
        return column;
      });
      return [xs, columns];
    }

    draw() {
      this.plot?.destroy();
      this.plot = null;
      const width = this.canvas.clientWidth;
      if (!width) return; // the chart is in a closed section of the page
      const [xs, columns] = this.table();
      const shown = this.lines.map((line) => !state.hidden.has(line.run));
      const isLog = state.log && columns.flat().some((value) => value > 0);
      const clean = (column) => (isLog ? column.map((value) => (value === undefined ? undefined : value > 0 ? value : null)) : column);
      const series = [{}];
      const values = [xs];
      this.source = [null];
      this.lines.forEach((line, index) => {
        const colour = variable(`--series-${line.series % 8}`);
        const base = { label: `${line.run} ${line.part}`, stroke: colour, dash: DASHES[line.part], spanGaps: false, show: shown[index] };
        const few = line.values.length < 40 && line.part !== "step";
        // Single steps are drawn faintly behind the means of the epochs.
        const isFaint = line.part === "step" && this.lines.some((other) => other.run === line.run && other.part === "train");
        const raw = clean(columns[index]);
        if (state.smoothing > 0 && line.part !== "noisy") {
          const known = raw.filter((value) => value !== undefined);
          const smoothed = smooth(known, state.smoothing);
          let next = 0;
          series.push({ ...base, width: 1, alpha: 0.25, points: { show: false } }, { ...base, width: 2, points: { show: false } });
          values.push(raw, raw.map((value) => (value === undefined ? undefined : smoothed[next++])));
          this.source.push(null, index);
        } else {
          series.push({ ...base, width: isFaint ? 1 : 2, alpha: isFaint ? 0.35 : 1, points: { show: few, size: 6, fill: colour } });
          values.push(raw);
          this.source.push(isFaint ? null : index);
        }
      });
      const soft = variable("--soft");
      const grid = { stroke: variable("--line"), width: 1 };
      const font = "12px system-ui, sans-serif";
      this.plot = new uPlot({
        width,
        height: this.canvas.clientHeight,
        series,
        scales: { x: { time: false }, y: { distr: isLog ? 3 : 1 } },
        axes: [
          { stroke: soft, grid, ticks: grid, font, size: 34, incrs: state.x === "steps" ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6] : undefined },
          { stroke: soft, grid, ticks: grid, font, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
        ],
        cursor: { sync: { key: sync.key, setSeries: false }, drag: { x: true, y: false }, points: { size: 7 } },
        legend: { show: false },
        hooks: {
          setCursor: [(plot) => this.showValues(plot.cursor.idx)],
          setScale: [(plot, key) => key === "x" && this.onZoom(plot)],
        },
      }, values, this.canvas);
      this.columns = values;
      if (state.range) this.zoom(...state.range);
      this.showValues(null);
    }

    onZoom(plot) {
      if (Chart.zooming) return;
      const { min, max } = plot.scales.x;
      const xs = plot.data[0];
      const isAll = min <= xs[0] && max >= xs[xs.length - 1];
      if (!plot.status || (isAll && !state.range)) return;
      state.range = isAll ? null : [min, max];
      zoomAll();
    }

    zoom(min, max) { this.plot?.setScale("x", { min, max }); }
    whole() {
      const xs = this.plot?.data[0];
      if (xs) this.zoom(xs[0], xs[xs.length - 1]);
    }

    // Shows the values at the cursor, or else the last values. A line without a point there shows its previous point.
    showValues(index) {
      const [xs] = this.columns;
      const at = index ?? xs.length - 1;
      this.values.replaceChildren();
      const position = document.createElement("span");
      position.textContent = index === null || index === undefined ? "last:" : `${state.x === "steps" ? "step" : "epoch"} ${number(xs[at])}:`;
      this.values.append(position);
      const items = new Map();
      this.source.forEach((line, column) => {
        if (line === null || state.hidden.has(this.lines[line].run)) return;
        let point = at;
        while (point > 0 && this.columns[column][point] === undefined) point -= 1;
        const { run, series, part } = this.lines[line];
        if (!items.has(run)) {
          const item = document.createElement("span");
          const name = document.createElement("b");
          name.textContent = run;
          name.style.color = variable(`--series-${series % 8}`);
          item.append(name);
          items.set(run, item);
          this.values.append(item);
        }
        items.get(run).append(` ${WORDS[part] ?? part} ${number(this.columns[column][point])}`);
      });
    }

    fillTable(target) {
      const [xs, columns] = this.table();
      const rows = xs.map((_, index) => index);
      const step = Math.max(1, Math.ceil(rows.length / 60));
      const table = document.createElement("table");
      const caption = table.createCaption();
      caption.textContent = step > 1 ? `${this.content.name}, every ${step}th of ${xs.length} points` : this.content.name;
      const head = table.createTHead().insertRow();
      for (const text of [state.x === "steps" ? "step" : "epoch", ...this.lines.map((line) => `${line.run} ${line.part}`)]) {
        const cell = document.createElement("th");
        cell.scope = "col";
        cell.textContent = text;
        head.append(cell);
      }
      const body = table.createTBody();
      for (const index of rows.filter((row) => row % step === 0 || row === rows.length - 1)) {
        const row = body.insertRow();
        const first = document.createElement("th");
        first.scope = "row";
        first.textContent = number(xs[index]);
        row.append(first);
        for (const column of columns) row.insertCell().textContent = column[index] === undefined ? "" : number(column[index]);
      }
      target.replaceChildren(table);
    }

    onKey(event) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const factor = { "+": 0.5, "=": 0.5, "-": 2, "−": 2 }[event.key];
      if (!this.plot || event.ctrlKey || event.metaKey || event.altKey || (!step && !factor)) return;
      event.preventDefault();
      const xs = this.plot.data[0];
      const at = this.plot.cursor.idx ?? xs.length - 1;
      if (step) {
        const next = Math.min(Math.max(0, at + step), xs.length - 1);
        this.plot.setCursor({ left: this.plot.valToPos(xs[next], "x"), top: 10 });
        this.values.setAttribute("aria-live", "polite");
      } else {
        const { min, max } = this.plot.scales.x;
        const half = ((max - min) * factor) / 2;
        const middle = Math.min(Math.max(xs[at], min), max);
        const range = [Math.max(xs[0], middle - half), Math.min(xs[xs.length - 1], middle + half)];
        state.range = range[0] <= xs[0] && range[1] >= xs[xs.length - 1] ? null : range;
        zoomAll();
      }
    }
  }

  const all = [...document.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure));
  const redraw = () => all.forEach((chart) => chart.draw());
  const zoomAll = () => {
    Chart.zooming = true;
    for (const chart of all) {
      if (state.range) chart.zoom(...state.range);
      else chart.whole();
    }
    // uPlot calls the setScale hooks asynchronously, after drawing, so the flag is cleared in a later task.
    setTimeout(() => { Chart.zooming = false; }, 0);
  };
  const smoothing = document.getElementById("smoothing");
  smoothing.addEventListener("input", () => {
    state.smoothing = Number(smoothing.value);
    smoothing.nextElementSibling.textContent = smoothing.value;
    redraw();
  });
  document.getElementById("log").addEventListener("change", (event) => { state.log = event.target.checked; redraw(); });
  document.getElementById("xaxis").addEventListener("change", (event) => { state.x = event.target.value; state.range = null; redraw(); });
  document.getElementById("zoom-out").addEventListener("click", () => { state.range = null; zoomAll(); });
  for (const box of controls.querySelectorAll("[data-run]")) {
    box.addEventListener("change", () => {
      state.hidden[box.checked ? "delete" : "add"](box.dataset.run);
      redraw();
    });
  }
  document.addEventListener("themechange", redraw);
  return { all, state };
})();
