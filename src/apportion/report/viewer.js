"use strict";
// Plays the episodes of a report page. Everything from the data reaches the page as text or as canvas strokes.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const PAD = { left: 70, right: 14, top: 26, gap: 34, bottom: 26 };
const MINUS = "\u2212";
const state = { episode: 0, step: 0, playing: false, clock: 0, owed: 0 };
let episode = DATA.episodes[0];
let sheets = {}; // camera -> Image of the episode shown
let scheduled = false;

function number(x) {
  if (x === null || !Number.isFinite(x)) return "\u2013";
  const size = Math.abs(x);
  const text = size !== 0 && (size < 0.01 || size >= 10000) ? x.toExponential(2) : x.toPrecision(3);
  return text.replace(/-/g, MINUS);
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// ---------------------------------------------------------------- choosing

function showEpisode(index) {
  state.episode = Math.max(0, Math.min(DATA.episodes.length - 1, index));
  episode = DATA.episodes[state.episode];
  sheets = {};
  for (const [camera, sheet] of Object.entries(episode.sheets)) {
    const image = new Image();
    image.onload = draw;
    image.src = sheet.src;
    sheets[camera] = image;
  }
  [...$("episodes").children].forEach((chip, i) => chip.setAttribute("aria-pressed", String(i === state.episode)));
  $("episodes").children[state.episode].scrollIntoView({ block: "nearest", inline: "nearest" });
  $("language").textContent = episode.language || episode.task || "no instruction";
  $("about").textContent = episode.about;
  makeCameras();
  makeExtremes();
  $("curve").setAttribute("aria-valuemax", String(episode.reward.length - 1));
  showStep(0);
}

function showStep(step) {
  state.step = Math.max(0, Math.min(episode.reward.length - 1, Math.round(step)));
  draw();
}

function play(on) {
  state.playing = on && episode.reward.length > 1;
  if (state.playing && state.step === episode.reward.length - 1) state.step = 0;
  $("play").textContent = state.playing ? "\u23F8 Pause" : "\u25B6 Play";
  $("play").setAttribute("aria-pressed", String(state.playing));
  state.clock = performance.now();
  state.owed = 0;
  if (state.playing) requestAnimationFrame(tick);
  draw();
}

function tick(now) {
  if (!state.playing) return;
  state.owed += ((now - state.clock) / 1000) * DATA.fps * Number($("speed").value);
  state.clock = now;
  const steps = Math.floor(state.owed);
  if (steps > 0) {
    state.owed -= steps;
    showStep(state.step + steps);
    if (state.step === episode.reward.length - 1) return play(false);
  }
  requestAnimationFrame(tick);
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
      button.addEventListener("click", () => { play(false); showStep(step); });
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
  const list = [{ title: "reward r per step", lines: [{ values: episode.reward, color: "--blue" }], zero: true, marks: true }];
  if (episode.potential) list.push({ title: "potential \u03C6", lines: [{ values: episode.potential, color: "--green" }] });
  const even = sum.map((_, t) => (sum[steps - 1] * (t + 1)) / steps);
  list.push({
    title: "summed reward (dashed: a constant reward with the same sum)",
    lines: [{ values: even, color: "--faint", dashed: true }, { values: sum, color: "--blue" }], zero: true,
  });
  const hues = ["--blue", "--orange", "--green", "--red", "--purple", "--sky", "--brown", "--grey"];
  for (const { title, lines } of episode.lines) {
    list.push({ title, lines: lines.map((values, i) => ({ values, color: hues[i % hues.length] })) });
  }
  return list;
}

function place(t, width) {
  const last = Math.max(1, episode.reward.length - 1);
  return PAD.left + (t / last) * (width - PAD.left - PAD.right);
}

function drawPanel(context, panel, top, height, width) {
  const all = panel.lines.flatMap((line) => line.values).filter(Number.isFinite);
  let low = Math.min(...all), high = Math.max(...all);
  if (panel.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const y = (v) => top + height - ((v - low) / (high - low)) * height;
  context.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
  context.fillStyle = color("--ink");
  context.textAlign = "left";
  context.fillText(panel.title, PAD.left, top - 9);
  context.font = "11.5px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = "right";
  for (const v of panel.zero && low < 0 && high > 0 ? [low, 0, high] : [low, high]) {
    context.strokeStyle = color("--line");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(PAD.left, Math.round(y(v)) + 0.5);
    context.lineTo(width - PAD.right, Math.round(y(v)) + 0.5);
    context.stroke();
    const crowded = v === 0 && Math.min(y(0) - y(high), y(low) - y(0)) < 12;
    context.fillStyle = color("--faint");
    if (!crowded) context.fillText(number(v), PAD.left - 8, y(v) + 4);
  }
  for (const line of panel.lines) {
    context.strokeStyle = color(line.color);
    context.lineWidth = line.dashed ? 1.2 : 1.8;
    context.setLineDash(line.dashed ? [5, 4] : []);
    context.lineJoin = "round";
    context.beginPath();
    let pen = false;
    line.values.forEach((v, t) => {
      if (!Number.isFinite(v)) { pen = false; return; }
      context[pen ? "lineTo" : "moveTo"](place(t, width), y(v));
      pen = true;
    });
    context.stroke();
    context.setLineDash([]);
  }
  const spot = (t, v, fill, radius) => {
    context.fillStyle = color(fill);
    context.beginPath();
    context.arc(place(t, width), y(v), radius, 0, 2 * Math.PI);
    context.fill();
  };
  if (panel.marks) {
    extremes(-1).forEach((t) => spot(t, episode.reward[t], "--orange", 3.5));
    extremes(1).forEach((t) => spot(t, episode.reward[t], "--green", 3.5));
  }
  for (const line of panel.lines) {
    const v = line.values[state.step];
    if (!line.dashed && Number.isFinite(v)) spot(state.step, v, line.color, 4.5);
  }
}

function drawCurve() {
  const canvas = $("curve"), list = panels(), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, heights = list.map((_, i) => (i === 0 ? 150 : 105));
  const total = PAD.top + heights.reduce((a, b) => a + b, 0) + PAD.gap * (list.length - 1) + PAD.bottom;
  canvas.style.height = `${total}px`;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(total * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(total * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, total);
  let top = PAD.top;
  const x = place(state.step, width);
  context.fillStyle = color("--cursor");
  context.fillRect(x - 0.75, PAD.top - 4, 1.5, total - PAD.top - PAD.bottom + 8);
  list.forEach((panel, i) => {
    drawPanel(context, panel, top, heights[i], width);
    top += heights[i] + PAD.gap;
  });
  context.fillStyle = color("--faint");
  context.font = "11.5px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = "left";
  context.fillText("step 0", PAD.left, total - 6);
  context.textAlign = "right";
  context.fillText(String(episode.reward.length - 1), width - PAD.right, total - 6);
}

function draw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    for (const canvas of document.querySelectorAll("#cameras canvas")) paintFrame(canvas, canvas.dataset.camera, state.step);
    for (const thumb of document.querySelectorAll(".thumb")) {
      const canvas = thumb.querySelector("canvas");
      if (canvas) paintFrame(canvas, canvas.dataset.camera, Number(thumb.dataset.step));
      thumb.setAttribute("aria-pressed", String(Number(thumb.dataset.step) === state.step));
    }
    drawCurve();
    const phi = episode.potential ? `, \u03C6 = ${number(episode.potential[state.step])}` : "";
    $("readout").textContent =
      `step ${state.step} of ${episode.reward.length - 1}: r = ${number(episode.reward[state.step])}${phi}`;
    $("curve").setAttribute("aria-valuenow", String(state.step));
    $("curve").setAttribute("aria-valuetext", $("readout").textContent);
  });
}

// ---------------------------------------------------------------- hands

function stepAt(event) {
  const box = $("curve").getBoundingClientRect();
  const share = (event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right);
  return share * Math.max(1, episode.reward.length - 1);
}

const KEYS = {
  ArrowRight: (e) => { play(false); showStep(state.step + (e.shiftKey ? 10 : 1)); },
  ArrowLeft: (e) => { play(false); showStep(state.step - (e.shiftKey ? 10 : 1)); },
  Home: () => { play(false); showStep(0); },
  End: () => { play(false); showStep(episode.reward.length - 1); },
  ArrowDown: () => { play(false); showEpisode(state.episode + 1); },
  ArrowUp: () => { play(false); showEpisode(state.episode - 1); },
  " ": () => play(!state.playing),
};

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
  $("play").addEventListener("click", () => play(!state.playing));
  const curve = $("curve");
  curve.addEventListener("pointerdown", (event) => {
    curve.setPointerCapture(event.pointerId);
    play(false);
    showStep(stepAt(event));
  });
  curve.addEventListener("pointermove", (event) => { if (event.buttons & 1) showStep(stepAt(event)); });
  addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, summary")) return;
    event.preventDefault(); // the page must not scroll, nor a focused button be pressed as well
    act(event);
  });
  // in some browsers a button is pressed by the release of the space bar
  addEventListener("keyup", (event) => { if (event.key === " " && event.target.closest("button")) event.preventDefault(); });
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  showEpisode(0);
}

start();
