"use strict";
// One file, no network: the page is a picture of DATA, moved by a step, a course and a human.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const PAD = { left: 58, right: 16, top: 26, gap: 34, bottom: 24 };
const PER_SECOND = 2;
const SHOWN = 12; // joint actions of the robots in the table; the rest is summed up
const state = { course: 0, step: 0, human: 0, playing: false, clock: 0, owed: 0 };
let course = DATA.courses[0], scheduled = false;

const number = (x) => (x === null || x === undefined ? "\u2013" : Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3)
  ? x.toExponential(2) : x.toPrecision(4)).replace("-", "\u2212");
const share = (x) => (x >= 0.9995 ? "1" : x < 0.0005 ? (x === 0 ? "0" : "<.001") : x.toFixed(3).slice(1));
const bits = (x) => (x > 0 ? Math.log2(x) : null);
const moment = () => course.moments[state.step];
const last = () => course.moments.length - 1;
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// ---------------------------------------------------------------- where we are

function showCourse(index) {
  state.course = (index + DATA.courses.length) % DATA.courses.length;
  course = DATA.courses[state.course];
  document.querySelectorAll("#courses button").forEach((chip, i) => {
    chip.setAttribute("aria-pressed", String(i === state.course));
  });
  $("about").textContent = course.about;
  $("step").max = String(last());
  showStep(0);
}

function showStep(step) {
  state.step = Math.max(0, Math.min(last(), Math.round(step)));
  draw();
}

function showHuman(index) {
  state.human = Math.max(0, Math.min(DATA.humans.length - 1, index));
  $("human").value = String(state.human);
  draw();
}

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

// ---------------------------------------------------------------- map

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawMap() {
  const now = moment(), found = [], under = [];
  $("picture").src = DATA.pictures[now.picture];
  $("picture").alt = now.words;
  if (!DATA.view) return;
  if ($("values").checked && now.v_e) {
    now.v_e[state.human].forEach((value, g) => {
      const box = DATA.boxes[g];
      if (!box) return;
      const [x, y, w, h] = box, cell = w <= 1 && h <= 1;
      under.push(svg("rect", { x, y, width: w, height: h, class: cell ? "value" : "value frame", "fill-opacity": cell ? 0.6 * value : 0 }));
      const place = { x: x + (cell ? w / 2 : w - 0.08), y: y + h - 0.1, class: cell ? "" : "corner" };
      found.push(svg("text", place, share(value)));
    });
  }
  (now.goals || []).forEach((g, h) => {
    const box = DATA.boxes[g];
    if (!box) return;
    const inset = 0.06 + 0.05 * h, [x, y, w, height] = box;
    found.push(svg("rect", { x: x + inset, y: y + inset, width: w - 2 * inset, height: height - 2 * inset, rx: 0.12,
      class: "goal", stroke: DATA.humans[h].color, "data-human": h }));
  });
  $("under").replaceChildren(...under);
  $("overlay").replaceChildren(...found);
}

// ---------------------------------------------------------------- tables

function bar(value, tone) {
  const line = element("span", "bar", element("span", ""));
  line.firstChild.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
  if (tone) line.firstChild.style.background = tone;
  return line;
}

function row(cells, chosen, mark) {
  const line = element("tr", chosen ? "chosen" : "");
  for (const cell of cells) line.append(element("td", "", cell));
  if (mark) line.firstChild.append(element("small", "", ` ${mark}`));
  return line;
}

function table(head, rows) {
  const body = element("table", "", element("tr", "", ...head.map((word) => element("th", "", word))));
  body.append(...rows);
  return body;
}

function humanCard(human, h) {
  const now = moment(), card = element("section", "card"), title = element("h3", "");
  const dot = element("span", "dot");
  dot.style.background = human.color;
  title.append(dot, human.name);
  card.dataset.human = String(h);
  if (!now.x) {
    card.append(title, element("p", "faint", "the end: nothing is reached any more"));
    return card;
  }
  const power = element("p", "power", element("b", "", `${number(bits(now.x[h]))} bits`), ` X_h = ${number(now.x[h])}`);
  card.append(title, power);
  if (now.human_pi) {
    const names = DATA.actions[human.agent], chosen = now.joint[human.agent];
    const rows = now.human_pi[h].slice(0, names.length).map((p, a) =>
      row([names[a], bar(p, human.color), share(p)], a === chosen, a === chosen ? "taken" : ""));
    card.append(element("h4", "", `wants ${DATA.goals[now.goals[h]]}`), table(["action", "\u03C0_h", ""], rows));
  }
  const goals = now.v_e[h].map((value, g) =>
    row([DATA.goals[g], bar(value, human.color), share(value)], now.goals && g === now.goals[h], ""));
  card.append(element("h4", "", "can reach"), element("div", "tall", table(["goal", "V_h^e", ""], goals)));
  return card;
}

function robotCard() {
  const now = moment(), card = element("section", "card"), title = element("h3", "");
  title.append(element("span", "dot square"), DATA.robots);
  card.append(title);
  if (!now.pi) {
    card.append(element("p", "faint", "the end: nobody acts any more"));
    return card;
  }
  card.append(element("p", "power", element("b", "", `U_r = ${number(now.u)}`), ` V_r = ${number(now.v)}`));
  if (DATA.robot_actions.length === 1) return card;
  const order = now.pi.map((_, a) => a);
  if (order.length > SHOWN) order.sort((a, b) => now.pi[b] - now.pi[a] || a - b);
  const shown = order.slice(0, SHOWN), rest = order.slice(SHOWN);
  if (now.robot !== null && !shown.includes(now.robot)) shown.push(rest.splice(rest.indexOf(now.robot), 1)[0]);
  const rows = shown.map((a) => {
    const taken = a === now.robot;
    return row([DATA.robot_actions[a], bar(now.pi[a]), share(now.pi[a]), number(now.q[a])], taken, taken ? "taken" : "");
  });
  if (rest.length) {
    const sum = rest.reduce((total, a) => total + now.pi[a], 0);
    rows.push(row([`${rest.length} more`, bar(sum), share(sum), ""], false, ""));
  }
  card.append(table(["action", "\u03C0_r", "", "Q_r"], rows));
  return card;
}

function drawCards() {
  const tall = [...document.querySelectorAll(".tall")].map((box) => box.scrollTop);
  $("cards").replaceChildren(...DATA.humans.map(humanCard));
  $("robot").replaceChildren(robotCard());
  document.querySelectorAll(".tall").forEach((box, i) => { box.scrollTop = tall[i] || 0; });
}

// ---------------------------------------------------------------- curves

function panels() {
  const of = (read) => course.moments.map((m) => (m.x ? read(m) : null));
  const power = DATA.humans.map((human, h) => ({ values: of((m) => bits(m.x[h])), color: human.color }));
  const names = DATA.humans.length > 1 ? ` (${DATA.humans.map((h) => h.name).join(", ")})` : "";
  return [
    { title: `power in bits, log\u2082 X_h${names}`, lines: power, height: 130 },
    { title: "robot's reward U_r", lines: [{ values: of((m) => m.u), color: "--robot" }], height: 80 },
  ];
}

function place(t, width) {
  return PAD.left + (t / Math.max(1, last())) * (width - PAD.left - PAD.right);
}

function drawPanel(context, panel, top, width) {
  const all = panel.lines.flatMap((line) => line.values).filter(Number.isFinite);
  let low = Math.min(...all), high = Math.max(...all);
  if (!(high - low > 1e-9)) [low, high] = [low - 0.5, high + 0.5];
  const y = (v) => top + panel.height - ((v - low) / (high - low)) * panel.height;
  context.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
  context.fillStyle = color("--ink");
  context.textAlign = "left";
  context.fillText(panel.title, PAD.left, top - 9);
  context.font = "11.5px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = "right";
  for (const v of [low, high]) {
    context.strokeStyle = color("--line");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(PAD.left, Math.round(y(v)) + 0.5);
    context.lineTo(width - PAD.right, Math.round(y(v)) + 0.5);
    context.stroke();
    context.fillStyle = color("--faint");
    context.fillText(number(v), PAD.left - 8, y(v) + 4);
  }
  for (const line of panel.lines) {
    const tone = line.color.startsWith("--") ? color(line.color) : line.color;
    context.strokeStyle = tone;
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    let pen = false;
    line.values.forEach((v, t) => {
      if (!Number.isFinite(v)) { pen = false; return; }
      context[pen ? "lineTo" : "moveTo"](place(t, width), y(v));
      pen = true;
    });
    context.stroke();
    const v = line.values[state.step];
    if (Number.isFinite(v)) {
      context.fillStyle = tone;
      context.beginPath();
      context.arc(place(state.step, width), y(v), 4.5, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

function drawCurve() {
  const canvas = $("curve"), list = panels(), ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  const total = PAD.top + list.reduce((a, panel) => a + panel.height, 0) + PAD.gap * (list.length - 1) + PAD.bottom;
  canvas.style.height = `${total}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(total * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = color("--cursor");
  context.fillRect(place(state.step, width) - 0.75, PAD.top - 4, 1.5, total - PAD.top - PAD.bottom + 8);
  let top = PAD.top;
  for (const panel of list) {
    drawPanel(context, panel, top, width);
    top += panel.height + PAD.gap;
  }
  context.fillStyle = color("--faint");
  context.font = "11.5px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = "left";
  context.fillText("step 0", PAD.left, total - 6);
  context.textAlign = "right";
  context.fillText(String(last()), width - PAD.right, total - 6);
}

function draw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    drawMap();
    drawCards();
    drawCurve();
    const now = moment(), left = now.left === null ? "" : `, ${now.left} to go`;
    $("readout").textContent = `step ${state.step} of ${last()}${left}${now.said ? `: ${now.said}` : ""}`;
    $("step").value = String(state.step);
    $("step").setAttribute("aria-valuetext", $("readout").textContent);
    $("state").textContent = now.words;
  });
}

// ---------------------------------------------------------------- hands

function stepAt(event) {
  const box = $("curve").getBoundingClientRect();
  return ((event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right)) * Math.max(1, last());
}

const go = (step) => { play(false); showStep(step); };
const KEYS = {
  ArrowRight: (e) => go(state.step + (e.shiftKey ? 10 : 1)),
  ArrowLeft: (e) => go(state.step - (e.shiftKey ? 10 : 1)),
  Home: () => go(0),
  End: () => go(last()),
  ArrowDown: () => { play(false); showCourse(state.course + 1); },
  ArrowUp: () => { play(false); showCourse(state.course - 1); },
  " ": () => play(!state.playing),
  h: () => showHuman((state.human + 1) % DATA.humans.length),
  v: () => { $("values").checked = !$("values").checked; draw(); },
};

function start() {
  $("courses").replaceChildren(...DATA.courses.map((one, i) => {
    const chip = element("button", "chip", one.name);
    chip.title = one.about;
    chip.addEventListener("click", () => { play(false); showCourse(i); });
    return chip;
  }));
  if (DATA.view) for (const id of ["under", "overlay"]) $(id).setAttribute("viewBox", DATA.view.join(" "));
  if (DATA.ground) {
    $("ground").src = DATA.ground;
    $("ground").hidden = false;
    $("picture").classList.add("above");
  }
  $("options").hidden = !DATA.view;
  $("human").replaceChildren(...DATA.humans.map((human, h) => {
    const option = element("option", "", human.name);
    option.value = String(h);
    return option;
  }));
  $("human").addEventListener("change", () => showHuman(Number($("human").value)));
  $("values").addEventListener("change", draw);
  $("play").addEventListener("click", () => play(!state.playing));
  $("back").addEventListener("click", () => go(state.step - 1));
  $("on").addEventListener("click", () => go(state.step + 1));
  $("step").addEventListener("input", () => go(Number($("step").value)));
  const curve = $("curve");
  curve.addEventListener("pointerdown", (event) => { curve.setPointerCapture(event.pointerId); go(stepAt(event)); });
  curve.addEventListener("pointermove", (event) => { if (event.buttons & 1) go(stepAt(event)); });
  addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, summary")) return;
    event.preventDefault(); // the page must not scroll, nor a focused button or slider move as well
    act(event);
  });
  // in some browsers a button is pressed by the release of the space bar
  addEventListener("keyup", (event) => { if (event.key === " " && event.target.closest("button, input")) event.preventDefault(); });
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  showCourse(0);
}

start();
