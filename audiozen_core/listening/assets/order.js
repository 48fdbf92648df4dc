// The random order of the trials. It is the same whenever the same listener opens the same page.
const Order = (() => {
  // FNV-1a. It is also the checksum of the ratings file, which Python verifies.
  const hash = (text) => {
    let fnv = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(text)) fnv = Math.imul(fnv ^ byte, 0x01000193);
    return fnv >>> 0;
  };

  // mulberry32, a generator of random numbers from 0 to 1.
  const generator = (seed) => () => {
    seed = (seed + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };

  const shuffled = (list, random) => {
    const result = [...list];
    for (let last = result.length - 1; last > 0; last -= 1) {
      const chosen = Math.floor(random() * (last + 1));
      [result[last], result[chosen]] = [result[chosen], result[last]];
    }
    return result;
  };

  // MUSHRA: the training comes first, then the trials in random order. The recordings of a trial are in random order.
  const sideBySide = (test, random) => {
    const trials = (training) => shuffled(test.trials.filter((trial) => trial.training === training), random);
    return [...trials(true), ...trials(false)].map((trial) => ({ ...trial, stimuli: shuffled(trial.stimuli, random) }));
  };

  // P.835: one recording at a time. Each round has every file once, with a random system. So the same utterance is rarely
  // heard twice in a row.
  const oneByOne = (test, random) => {
    const rounds = (training) => {
      const files = test.trials.filter((trial) => trial.training === training);
      const mixed = files.map((trial) => ({ ...trial, stimuli: shuffled(trial.stimuli, random) }));
      const order = [];
      for (let round = 0; mixed.some((trial) => round < trial.stimuli.length); round += 1) {
        const trials = shuffled(mixed, random);
        if (trials.length > 1 && order.at(-1)?.id === trials[0].id) trials.push(trials.shift());
        for (const trial of trials) {
          if (round < trial.stimuli.length) order.push({ ...trial, stimuli: [trial.stimuli[round]] });
        }
      }
      return order;
    };
    const [practice, real] = [rounds(true), rounds(false)];
    // As P.835 requires, half of the trials rate the speech signal before the background, the others after it.
    const names = test.scales.map((scale) => scale.name);
    const orders = shuffled([names, [names[1], names[0], ...names.slice(2)]], random);
    return [
      ...practice.map((trial) => ({ ...trial, scales: orders[0] })),
      ...real.map((trial, index) => ({ ...trial, scales: orders[index < real.length / 2 ? 0 : 1] })),
    ];
  };

  return {
    hash,
    plan: (test, seed) => (test.method === "mushra" ? sideBySide : oneByOne)(test, generator(seed)),
  };
})();
