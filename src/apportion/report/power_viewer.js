// After player.js: the page is a picture of DATA, moved by a step, a course and a human.
const PAD = { left: 58, right: 16, top: 26, gap: 34, bottom: 24 };
const PER_SECOND = 2;
const SHOWN = 12; // joint actions of the robots in the table; the rest is summed up
const seen = { course: 0, human: 0 };
let course = DATA.courses[0];

const number = (x) => (x === null || x === undefined ? "\u2013" : Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3)
  ? x.toExponential(2) : x.toPrecision(4)).replace("-", "\u2212");
const share = (x) => (x >= 0.9995 ? "1" : x < 0.0005 ? (x === 0 ? "0" : "<.001") : x.toFixed(3).slice(1));
const bits = (x) => (x > 0 ? Math.log2(x) : null);
const moment = () => course.moments[state.step];
const last = () => course.moments.length - 1;

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// ---------------------------------------------------------------- where we are

function showCourse(index) {
  seen.course = (index + DATA.courses.length) % DATA.courses.length;
  course = DATA.courses[seen.course];
  document.querySelectorAll("#courses button").forEach((chip, i) => {
    chip.setAttribute("aria-pressed", String(i === seen.course));
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
  seen.human = Math.max(0, Math.min(DATA.humans.length - 1, index));
  $("human").value = String(seen.human);
  draw();
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
    now.v_e[seen.human].forEach((value, g) => {
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
  const power = DATA.humans.map((human, h) => ({ values: of((m) => bits(m.x[h])), color: human.color, width: 2 }));
  const names = DATA.humans.length > 1 ? ` (${DATA.humans.map((h) => h.name).join(", ")})` : "";
  return [
    { title: `power in bits, log\u2082 X_h${names}`, lines: power, height: 130, flat: 1e-9 },
    { title: "robot's reward U_r", lines: [{ values: of((m) => m.u), color: "--robot", width: 2 }], height: 80, flat: 1e-9 },
  ];
}

function paint() {
  drawMap();
  drawCards();
  drawCurve();
  const now = moment(), left = now.left === null ? "" : `, ${now.left} to go`;
  $("readout").textContent = `step ${state.step} of ${last()}${left}${now.said ? `: ${now.said}` : ""}`;
  $("step").value = String(state.step);
  $("step").setAttribute("aria-valuetext", $("readout").textContent);
  $("state").textContent = now.words;
}

// ---------------------------------------------------------------- hands

const KEYS = {
  ArrowDown: () => { play(false); showCourse(seen.course + 1); },
  ArrowUp: () => { play(false); showCourse(seen.course - 1); },
  h: () => showHuman((seen.human + 1) % DATA.humans.length),
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
  $("back").addEventListener("click", () => go(state.step - 1));
  $("on").addEventListener("click", () => go(state.step + 1));
  $("step").addEventListener("input", () => go(Number($("step").value)));
  listen(KEYS, "button, input");
  showCourse(0);
}

start();
