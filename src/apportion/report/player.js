"use strict";
// What the pages that are stepped through share. The page's own script comes after this one, in the same element, and
// says what a step is: PAD, PER_SECOND, number(), last(), showStep(), panels(), paint(). Its start() begins.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { step: 0, playing: false, clock: 0, owed: 0 };
let scheduled = false;

function color(name) {
  return name.startsWith("--") ? getComputedStyle(document.documentElement).getPropertyValue(name).trim() : name;
}

// ---------------------------------------------------------------- playing

function play(on) {
  state.playing = on && last() > 0;
  if (state.playing && state.step === last()) state.step = 0;
  $("play").textContent = state.playing ? "\u23F8 Pause" : "\u25B6 Play";
  $("play").setAttribute("aria-pressed", String(state.playing));
  state.clock = performance.now();
  state.owed = 0;
  if (state.playing) requestAnimationFrame(tick);
  draw();
}

function tick(now) {
  if (!state.playing) return;
  state.owed += ((now - state.clock) / 1000) * PER_SECOND * Number($("speed").value);
  state.clock = now;
  const steps = Math.floor(state.owed);
  if (steps > 0) {
    state.owed -= steps;
    showStep(state.step + steps);
    if (state.step === last()) return play(false);
  }
  requestAnimationFrame(tick);
}

function go(step) {
  play(false);
  showStep(step);
}

function draw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    paint();
  });
}

// ---------------------------------------------------------------- curves

const place = (t, width) => PAD.left + (t / Math.max(1, last())) * (width - PAD.left - PAD.right);

function stepAt(event) {
  const box = $("curve").getBoundingClientRect();
  return ((event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right)) * Math.max(1, last());
}

function write(context, text, x, y, tone, align, bold) {
  context.font = `${bold ? "600 13px" : "11.5px"} system-ui, 'DejaVu Sans', sans-serif`;
  context.fillStyle = color(tone);
  context.textAlign = align;
  context.fillText(text, x, y);
}

// panel: title, height, lines: [{ values, color, width, dashed }]; zero: 0 is always in it; flat: a range below which a
// curve is a level line; marks(spot): dots of one's own
function drawPanel(context, panel, top, width) {
  const all = panel.lines.flatMap((line) => line.values).filter(Number.isFinite);
  let low = Math.min(...all), high = Math.max(...all);
  if (panel.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  if (!(high - low > (panel.flat || 0))) [low, high] = [low - 0.5, high + 0.5];
  const y = (v) => top + panel.height - ((v - low) / (high - low)) * panel.height;
  write(context, panel.title, PAD.left, top - 9, "--ink", "left", true);
  for (const v of panel.zero && low < 0 && high > 0 ? [low, 0, high] : [low, high]) {
    context.strokeStyle = color("--line");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(PAD.left, Math.round(y(v)) + 0.5);
    context.lineTo(width - PAD.right, Math.round(y(v)) + 0.5);
    context.stroke();
    const crowded = panel.zero && v === 0 && Math.min(y(0) - y(high), y(low) - y(0)) < 12;
    if (!crowded) write(context, number(v), PAD.left - 8, y(v) + 4, "--faint", "right", false);
  }
  for (const line of panel.lines) drawLine(context, line, y, width);
  const spot = (t, v, tone, radius) => {
    context.fillStyle = color(tone);
    context.beginPath();
    context.arc(place(t, width), y(v), radius, 0, 2 * Math.PI);
    context.fill();
  };
  if (panel.marks) panel.marks(spot);
  for (const line of panel.lines) {
    const v = line.values[state.step];
    if (!line.dashed && Number.isFinite(v)) spot(state.step, v, line.color, 4.5);
  }
}

function drawLine(context, line, y, width) {
  context.strokeStyle = color(line.color);
  context.lineWidth = line.width;
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

function drawCurve() {
  const canvas = $("curve"), list = panels(), ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  const total = PAD.top + list.reduce((a, panel) => a + panel.height, 0) + PAD.gap * (list.length - 1) + PAD.bottom;
  canvas.style.height = `${total}px`;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(total * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(total * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, total);
  context.fillStyle = color("--cursor");
  context.fillRect(place(state.step, width) - 0.75, PAD.top - 4, 1.5, total - PAD.top - PAD.bottom + 8);
  let top = PAD.top;
  for (const panel of list) {
    drawPanel(context, panel, top, width);
    top += panel.height + PAD.gap;
  }
  write(context, "step 0", PAD.left, total - 6, "--faint", "left", false);
  write(context, String(last()), width - PAD.right, total - 6, "--faint", "right", false);
}

// ---------------------------------------------------------------- hands

const STEPPING = {
  ArrowRight: (event) => go(state.step + (event.shiftKey ? 10 : 1)),
  ArrowLeft: (event) => go(state.step - (event.shiftKey ? 10 : 1)),
  Home: () => go(0),
  End: () => go(last()),
  " ": () => play(!state.playing),
};

// keys: what else they do; focusable: what must not be pressed by the space bar as well
function listen(keys, focusable) {
  const all = { ...STEPPING, ...keys }, curve = $("curve");
  $("play").addEventListener("click", () => play(!state.playing));
  curve.addEventListener("pointerdown", (event) => { curve.setPointerCapture(event.pointerId); go(stepAt(event)); });
  curve.addEventListener("pointermove", (event) => { if (event.buttons & 1) go(stepAt(event)); });
  addEventListener("keydown", (event) => {
    const act = all[event.key];
    if (!act || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, summary")) return;
    event.preventDefault(); // the page must not scroll, nor a focused button or slider move as well
    act(event);
  });
  // in some browsers a button is pressed by the release of the space bar
  addEventListener("keyup", (event) => { if (event.key === " " && event.target.closest(focusable)) event.preventDefault(); });
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

