"use strict";

// The explainer of docs/explainer.md. First the mathematics, which tests hold to the conformance vectors; then the
// pictures, drawn from nothing else.

const l0refExplainer = (() => {
  // phi(w) = 1 - exp(-beta |w|); expm1 keeps the digits of small arguments
  const value = (w, beta) => -Math.expm1(-beta * Math.abs(w));

  // phi'(w) = beta exp(-beta |w|) sign(w), 0 at 0; halved, since exp has few digits where it is subnormal
  function slope(w, beta) {
    const half = Math.exp(-0.5 * beta * Math.abs(w));
    return w === 0 ? 0 : Math.sign(w) * beta * half * half;
  }

  // the branch -1 <= w <= 0 of w exp(w) = y, -1/e <= y <= 0: series around either end, then Halley's steps
  function lambertW(y) {
    const p = Math.sqrt(Math.max(2 * (1 + Math.E * y), 0));
    let w = y < -0.25 ? -1 + p * (1 - p * (1 / 3 - (11 / 72) * p)) : y * (1 - y * (1 - 1.5 * y));
    for (let i = 0; i < 8; i++) {
      const e = Math.exp(w), f = w * e - y, s = Math.max(w + 1, 1e-9);
      w = Math.min(0, Math.max(-1, w - f / (e * s - (f * (w + 2)) / (2 * s))));
    }
    return w;
  }

  // argmin over x of (x - z)^2 / 2 + t phi(x): the stationary point, kept if it is lower than x = 0
  function prox(z, t, beta) {
    const a = Math.abs(z), tau = Math.min(t * beta * beta, 1e300) * Math.exp(-beta * a);
    if (tau > Math.exp(-1)) return 0;
    const x = a + lambertW(-tau) / beta;
    return x > 0 && x / 2 + (t * value(x, beta)) / x < a ? Math.sign(z) * x : 0;
  }

  // the largest |z| that prox sends to 0: t beta for a small step, else found by halving between two bounds
  function deadZone(t, beta) {
    if (t * beta * beta <= 1) return t * beta;
    let low = (1 + Math.log(t * beta * beta)) / beta, high = Math.sqrt(2 * t);
    for (;;) {
      const middle = low + (high - low) / 2;
      if (middle <= low || middle >= high) return low;
      if (prox(middle, t, beta) === 0) low = middle;
      else high = middle;
    }
  }

  // One weight, one step. rule: {lr, momentum, nesterov} or {lr, beta1, beta2, eps}; penalty: {beta, price, l2} or null;
  // memory: {} before the first step
  function step(w, gradient, memory, rule, penalty, proximal) {
    const adam = rule.beta1 !== undefined;
    let g = gradient, size = rule.lr / (1 - (rule.momentum ?? 0));
    if (penalty) g += 2 * penalty.l2 * w + (proximal ? 0 : penalty.price * slope(w, penalty.beta));
    if (adam) {
      memory.t = (memory.t ?? 0) + 1;
      memory.m = rule.beta1 * (memory.m ?? 0) + (1 - rule.beta1) * g;
      memory.v = rule.beta2 * (memory.v ?? 0) + (1 - rule.beta2) * g * g;
      size = rule.lr / (Math.sqrt(memory.v / (1 - rule.beta2 ** memory.t)) + rule.eps);
      w -= (size * memory.m) / (1 - rule.beta1 ** memory.t);
    } else {
      memory.v = rule.momentum * (memory.v ?? 0) + g;
      w -= rule.lr * (rule.nesterov ? g + rule.momentum * memory.v : memory.v);
    }
    return penalty && proximal ? prox(w, size * penalty.price, penalty.beta) : w;
  }

  // Random numbers that are the same on every visit: a linear congruential generator, and Gauss's bell by Box and Muller
  function generator(seed) {
    let state = seed >>> 0;
    const uniform = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  const RULES = {
    SGD: [(lr) => ({ lr, momentum: 0 }), false],
    Adam: [(lr) => ({ lr, beta1: 0.9, beta2: 0.999, eps: 1e-8 }), false],
    prox: [(lr) => ({ lr, momentum: 0 }), true],
  };

  // The places of a weight whose data loss is (w - target)^2 / 2, under a rule by name
  function path(name, { alpha, beta, lr, start, target, steps }) {
    const [rule, proximal] = RULES[name], memory = {}, places = [start];
    for (let i = 0; i < steps; i++) {
      const w = places[i];
      places.push(step(w, w - target, memory, rule(lr), { beta, price: alpha, l2: 0 }, proximal));
    }
    return places;
  }

  // Weights of a cloud: every fourth has a target away from 0, and every gradient its noise
  function cloud(name, { alpha, beta, lr, count = 400, steps = 200, noise = 0.1 }) {
    const normal = generator(1), [rule, proximal] = RULES[name];
    return Array.from({ length: count }, (_, i) => {
      const target = i % 4 ? 0 : normal(), memory = {};
      let w = 0.3 * normal();
      for (let k = 0; k < steps; k++) {
        w = step(w, w - target + noise * normal(), memory, rule(lr), { beta, price: alpha, l2: 0 }, proximal);
      }
      return { w, target };
    });
  }

  // What remains of a cloud when weights with |w| < threshold are set to 0: counts, and the mean data loss
  function cut(weights, threshold) {
    const loss = (each, w) => (w - each.target) ** 2 / 2 / weights.length;
    const found = { removed: 0, needed: 0, before: 0, after: 0 };
    for (const each of weights) {
      const gone = Math.abs(each.w) < threshold;
      found.removed += gone;
      found.needed += gone && each.target !== 0;
      found.before += loss(each, each.w);
      found.after += loss(each, gone ? 0 : each.w);
    }
    return found;
  }

  return { value, slope, lambertW, prox, deadZone, step, path, cloud, cut };
})();

(() => {
  const root = document.getElementById("l0-explainer");
  if (root === null) return;
  const maths = l0refExplainer;
  const COLOURS = { SGD: "#0072b2", Adam: "#d55e00", prox: "#009e73" };
  const WIDTH = 320, HEIGHT = 180, EDGE = 26;
  const show = (number) => Number(number.toPrecision(3)).toString();

  function element(name, attributes, parent, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, each] of Object.entries(attributes)) made.setAttribute(key, each);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  // An empty plot with its axes; returns what draws into it in the units of the data
  function plot(id, [left, right], [low, high]) {
    const svg = root.querySelector(`#${id}`);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    const x = (v) => EDGE + ((v - left) / (right - left)) * (WIDTH - EDGE - 6);
    const y = (v) => HEIGHT - EDGE + ((v - low) / (high - low)) * (2 * EDGE - HEIGHT);
    const line = (a, b, c, d, more = {}) =>
      element("line", { x1: x(a), y1: y(b), x2: x(c), y2: y(d), stroke: "#b0b0b0", ...more }, svg);
    line(left, Math.max(low, Math.min(0, high)), right, Math.max(low, Math.min(0, high)));
    line(Math.max(left, Math.min(0, right)), low, Math.max(left, Math.min(0, right)), high);
    const text = (v, w, words, more) => element("text", { x: v, y: w, "font-size": 9, ...more }, svg, words);
    text(x(left), HEIGHT - 6, show(left));
    text(x(right), HEIGHT - 6, show(right), { "text-anchor": "end" });
    text(2, y(high) + 4, show(high));
    text(2, y(low), show(low));
    return {
      svg, x, y, line,
      curve: (points, more) =>
        element("polyline", {
          points: points.map(([a, b]) => `${x(a).toFixed(2)},${y(b).toFixed(2)}`).join(" "),
          fill: "none", stroke: "#0072b2", "stroke-width": 1.6, ...more,
        }, svg),
      band: (from, to, more) =>
        element("rect", { x: x(from), y: y(high), width: x(to) - x(from), height: y(low) - y(high), fill: "#f0e442", opacity: 0.4, ...more }, svg),
    };
  }

  const grid = (left, right, n = 400) => Array.from({ length: n + 1 }, (_, i) => left + ((right - left) * i) / n);

  function settings() {
    const found = {};
    for (const input of root.querySelectorAll("input[type=range]")) {
      const raw = Number(input.value);
      found[input.name] = "log" in input.dataset ? 10 ** raw : raw;
      root.querySelector(`output[for=${input.id}]`).value = show(found[input.name]);
    }
    found.rule = root.querySelector("select").value;
    return found;
  }

  function drawFunctions({ alpha, beta, lr }) {
    const t = lr * alpha, zone = maths.deadZone(t, beta);
    const phi = plot("l0-phi", [-2, 2], [0, 1]);
    phi.curve(grid(-2, 2).map((w) => [w, maths.value(w, beta)]));
    const top = alpha * beta;
    const pull = plot("l0-slope", [-2, 2], [-top, top]);
    for (const side of [grid(-2, -1e-9), grid(1e-9, 2)]) pull.curve(side.map((w) => [w, alpha * maths.slope(w, beta)]));
    const wide = Math.max(2 * zone, 1e-3), shrink = plot("l0-prox", [-wide, wide], [-wide, wide]);
    shrink.band(-zone, zone);
    shrink.line(-wide, -wide, wide, wide, { "stroke-dasharray": "3 3" });
    const prox = (z) => [z, maths.prox(z, t, beta)];
    for (const side of [grid(-wide, -zone * (1 + 1e-9)), [-zone, zone], grid(zone * (1 + 1e-9), wide)]) shrink.curve(side.map(prox));
    root.querySelector("#l0-numbers").value =
      `Pull at 0: alpha beta = ${show(top)}. Prox with step lr alpha = ${show(t)}: everything up to |z| = ${show(zone)} becomes exactly 0` +
      (t * beta * beta <= 1 ? ", and from there it rises continuously." : ", and the smallest weight that survives jumps away from 0.");
  }

  function drawPaths(given) {
    const paths = Object.keys(COLOURS).map((name) => [name, maths.path(name, { ...given, start: 1, steps: 80 })]);
    const all = paths.flatMap(([, places]) => places);
    const low = Math.min(0, ...all), picture = plot("l0-paths", [0, 80], [low, Math.max(...all)]);
    for (const [name, places] of paths) picture.curve(places.map((w, i) => [i, w]), { stroke: COLOURS[name], class: name });
    root.querySelector("#l0-ends").value = paths.map(([name, places]) => `${name} ends at ${show(places.at(-1))}`).join(", ") + ".";
  }

  function drawCloud({ alpha, beta, lr, rule, threshold }) {
    const weights = maths.cloud(rule, { alpha, beta, lr }), bins = 40, decades = [-4, 0.6];
    const place = (w) => Math.max(decades[0], Math.min(decades[1], Math.log10(Math.abs(w) || 1e-9)));
    const counts = [0, 0].map(() => Array(bins).fill(0));
    const bin = (w) => Math.min(bins - 1, Math.floor(((place(w) - decades[0]) / (decades[1] - decades[0])) * bins));
    for (const { w, target } of weights) counts[target === 0 ? 0 : 1][bin(w)]++;
    const high = Math.max(...counts[0].map((n, i) => n + counts[1][i]));
    const picture = plot("l0-cloud", decades, [0, high]), wide = (decades[1] - decades[0]) / bins;
    for (let i = 0; i < bins; i++) {
      const left = decades[0] + i * wide;
      [[0, counts[0][i], "#7f7f7f"], [counts[0][i], counts[0][i] + counts[1][i], "#0072b2"]].forEach(([from, to, fill]) =>
        element("rect", { x: picture.x(left), width: picture.x(left + wide) - picture.x(left) - 0.5, y: picture.y(to), height: picture.y(from) - picture.y(to), fill }, picture.svg));
    }
    const at = place(threshold);
    picture.line(at, 0, at, high, { stroke: "#d55e00", "stroke-width": 2 });
    const found = maths.cut(weights, threshold);
    root.querySelector("#l0-cut").value =
      `Cut at ${show(threshold)}: ${found.removed} of ${weights.length} weights go, ${found.needed} of them needed by the data. ` +
      `Mean data loss ${show(found.before)} before, ${show(found.after)} after.`;
  }

  function draw() {
    const given = settings();
    drawFunctions(given);
    drawPaths(given);
    drawCloud(given);
  }

  root.addEventListener("input", draw);
  draw();
})();
