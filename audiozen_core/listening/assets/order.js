// The order of a listener: random, and the same whenever the same listener opens the same page.
const Order = (() => {
  // FNV-1a. The file of ratings has such a hash, too, and Python computes it again.
  const hash = (text) => {
    let found = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(text)) found = Math.imul(found ^ byte, 0x01000193);
    return found >>> 0;
  };

  // mulberry32: numbers from 0 to 1.
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

  // MUSHRA: the trials in random order, each with its recordings in random order. The training comes first.
  const sideBySide = (test, random) => {
    const of = (training) => shuffled(test.trials.filter((trial) => trial.training === training), random);
    return [...of(true), ...of(false)].map((trial) => ({ ...trial, stimuli: shuffled(trial.stimuli, random) }));
  };

  // P.835: one recording at a time. In each round every file is heard once, by one of the systems at random, so that the
  // same words rarely follow each other.
  const oneByOne = (test, random) => {
    const rounds = (training) => {
      const files = test.trials.filter((trial) => trial.training === training);
      const of = files.map((trial) => ({ ...trial, stimuli: shuffled(trial.stimuli, random) }));
      const found = [];
      for (let round = 0; of.some((trial) => round < trial.stimuli.length); round += 1) {
        const now = shuffled(of, random);
        if (now.length > 1 && found.at(-1)?.id === now[0].id) now.push(now.shift());
        for (const trial of now) {
          if (round < trial.stimuli.length) found.push({ ...trial, stimuli: [trial.stimuli[round]] });
        }
      }
      return found;
    };
    const [practice, real] = [rounds(true), rounds(false)];
    // P.835: the speech signal is rated before the background in half of the trials, and after it in the other half.
    const names = test.scales.map((scale) => scale.name);
    const orders = shuffled([names, [names[1], names[0], ...names.slice(2)]], random);
    return [
      ...practice.map((trial) => ({ ...trial, scales: orders[0] })),
      ...real.map((trial, place) => ({ ...trial, scales: orders[place < real.length / 2 ? 0 : 1] })),
    ];
  };

  return {
    hash,
    plan: (test, seed) => (test.method === "mushra" ? sideBySide : oneByOne)(test, generator(seed)),
  };
})();
