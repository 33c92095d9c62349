// Plays the episodes of a report page, after player.js. Everything from the data reaches the page as text or as canvas
// strokes.
const PAD = { left: 70, right: 14, top: 26, gap: 34, bottom: 26 };
const MINUS = "\u2212";
const PER_SECOND = DATA.fps;
let episode = DATA.episodes[0], shown = 0; // which of them
let sheets = {}; // camera -> Image of the episode shown

const last = () => episode.reward.length - 1;

function number(x) {
  if (x === null || !Number.isFinite(x)) return "\u2013";
  const size = Math.abs(x);
  const text = size !== 0 && (size < 0.01 || size >= 10000) ? x.toExponential(2) : x.toPrecision(3);
  return text.replace(/-/g, MINUS);
}

// ---------------------------------------------------------------- choosing

function showEpisode(index) {
  shown = Math.max(0, Math.min(DATA.episodes.length - 1, index));
  episode = DATA.episodes[shown];
  sheets = {};
  for (const [camera, sheet] of Object.entries(episode.sheets)) {
    const image = new Image();
    image.onload = draw;
    image.src = sheet.src;
    sheets[camera] = image;
  }
  [...$("episodes").children].forEach((chip, i) => chip.setAttribute("aria-pressed", String(i === shown)));
  $("episodes").children[shown].scrollIntoView({ block: "nearest", inline: "nearest" });
  $("language").textContent = episode.language || episode.task || "no instruction";
  $("about").textContent = episode.about;
  makeCameras();
  makeExtremes();
  $("curve").setAttribute("aria-valuemax", String(last()));
  showStep(0);
}

function showStep(step) {
  state.step = Math.max(0, Math.min(last(), Math.round(step)));
  draw();
}

// ---------------------------------------------------------------- pictures

function nearest(sheet, step) {
  let best = 0;
  for (let i = 1; i < sheet.at.length; i++) if (Math.abs(sheet.at[i] - step) <= Math.abs(sheet.at[best] - step)) best = i;
  return best;
}

function paintFrame(canvas, camera, step) {
  const sheet = episode.sheets[camera], image = sheets[camera];
  if (!image || !image.complete || !image.naturalWidth) return;
  const i = nearest(sheet, step), context = canvas.getContext("2d");
  canvas.dataset.frame = String(sheet.at[i]);
  const x = (i % sheet.columns) * sheet.width, y = Math.floor(i / sheet.columns) * sheet.height;
  context.drawImage(image, x, y, sheet.width, sheet.height, 0, 0, canvas.width, canvas.height);
}

function frameCanvas(camera) {
  const canvas = document.createElement("canvas");
  canvas.width = episode.sheets[camera].width;
  canvas.height = episode.sheets[camera].height;
  canvas.dataset.camera = camera;
  return canvas;
}

function makeCameras() {
  $("cameras").replaceChildren(...Object.keys(episode.sheets).map((camera) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    caption.textContent = camera + (DATA.turned[camera] ? ", " + DATA.turned[camera] : "");
    figure.append(frameCanvas(camera), caption);
    return figure;
  }));
}

function extremes(sign) {
  // three steps, apart from each other by a twentieth of the episode, so that they are not one peak three times
  const apart = Math.max(1, Math.round(episode.reward.length / 20)), found = [];
  const order = episode.reward.map((r, t) => [sign * r, t]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  for (const [, t] of order) if (found.length < 3 && found.every((other) => Math.abs(other - t) >= apart)) found.push(t);
  return found;
}

function makeExtremes() {
  for (const [id, sign] of [["highest", 1], ["lowest", -1]]) {
    $(id).replaceChildren(...extremes(sign).map((step) => {
      const button = document.createElement("button"), label = document.createElement("span");
      button.className = "thumb";
      button.dataset.step = String(step);
      const camera = Object.keys(episode.sheets)[0];
      if (camera) button.append(frameCanvas(camera));
      label.textContent = `step ${step}: ${number(episode.reward[step])}`;
      button.append(label);
      button.addEventListener("click", () => go(step));
      return button;
    }));
  }
}

// ---------------------------------------------------------------- curves

function cumulated(values) {
  let sum = 0;
  return values.map((x) => (sum += x));
}

function panels() {
  const sum = cumulated(episode.reward), steps = episode.reward.length;
  const line = (values, color, dashed) => ({ values, color, dashed, width: dashed ? 1.2 : 1.8 });
  const marks = (spot) => {
    extremes(-1).forEach((t) => spot(t, episode.reward[t], "--orange", 3.5));
    extremes(1).forEach((t) => spot(t, episode.reward[t], "--green", 3.5));
  };
  const list = [{ title: "reward r per step", lines: [line(episode.reward, "--blue")], zero: true, marks }];
  if (episode.potential) list.push({ title: "potential \u03C6", lines: [line(episode.potential, "--green")] });
  const even = sum.map((_, t) => (sum[steps - 1] * (t + 1)) / steps);
  list.push({
    title: "summed reward (dashed: a constant reward with the same sum)",
    lines: [line(even, "--faint", true), line(sum, "--blue")], zero: true,
  });
  const hues = ["--blue", "--orange", "--green", "--red", "--purple", "--sky", "--brown", "--grey"];
  for (const { title, lines } of episode.lines) {
    list.push({ title, lines: lines.map((values, i) => line(values, hues[i % hues.length])) });
  }
  return list.map((panel, i) => ({ ...panel, height: i === 0 ? 150 : 105 }));
}

function paint() {
  for (const canvas of document.querySelectorAll("#cameras canvas")) paintFrame(canvas, canvas.dataset.camera, state.step);
  for (const thumb of document.querySelectorAll(".thumb")) {
    const canvas = thumb.querySelector("canvas");
    if (canvas) paintFrame(canvas, canvas.dataset.camera, Number(thumb.dataset.step));
    thumb.setAttribute("aria-pressed", String(Number(thumb.dataset.step) === state.step));
  }
  drawCurve();
  const phi = episode.potential ? `, \u03C6 = ${number(episode.potential[state.step])}` : "";
  $("readout").textContent = `step ${state.step} of ${last()}: r = ${number(episode.reward[state.step])}${phi}`;
  $("curve").setAttribute("aria-valuenow", String(state.step));
  $("curve").setAttribute("aria-valuetext", $("readout").textContent);
}

// ---------------------------------------------------------------- hands

function start() {
  $("episodes").replaceChildren(...DATA.episodes.map((e, i) => {
    const chip = document.createElement("button"), mark = document.createElement("span");
    chip.className = `chip ${e.outcome}`;
    mark.className = "mark";
    mark.textContent = { success: "\u2713", failure: "\u2717", unknown: "?" }[e.outcome];
    chip.title = e.about;
    chip.append(mark, ` ${e.number} `, Object.assign(document.createElement("span"), { className: "score", textContent: number(e.score) }));
    chip.addEventListener("click", () => { play(false); showEpisode(i); });
    return chip;
  }));
  listen({
    ArrowDown: () => { play(false); showEpisode(shown + 1); },
    ArrowUp: () => { play(false); showEpisode(shown - 1); },
  }, "button");
  showEpisode(0);
}

start();
