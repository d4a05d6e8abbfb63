// An open case: one method or two, image and overlays as layers of pictures, the slices of a volume in a mosaic.

const LAYERS = ["reference", "prediction", "disagreement"];
const opened = { rows: [null, null], name: "", slice: 0 };

function placeOf(r, name) {
  const row = data.rows[r];
  return row.cases.indexOf(data.cases[row.dataset].indexOf(name));
}

function shotOf(r, name) {
  const row = data.rows[r];
  const shot = row.shots[data.cases[row.dataset].indexOf(name)];
  if (!shot) return null;
  const [scene, prediction, disagreement, said, agreement, seed] = shot;
  const [image, reference, about, width, height, slices, columns, first, opening] = data.scenes[scene];
  return { image, reference, about, width, height, slices, columns, first, opening, prediction, disagreement, said, agreement, seed };
}

function openCase(first, name, second) {
  const r = Number(first);
  if (!data.rows[r] || placeOf(r, name) < 0) return;
  opened.rows = [r, second === undefined ? null : Number(second)];
  opened.name = name;
  const shot = shotOf(r, name) || (opened.rows[1] !== null && shotOf(opened.rows[1], name));
  const same = byId("case").dataset.name === `${data.rows[r].dataset}/${name}`;
  byId("case").dataset.name = `${data.rows[r].dataset}/${name}`;
  if (!same) opened.slice = shot ? shot.opening : 0;
  drawCase(shot);
  if (!byId("case").open) byId("case").showModal();
}

function closeCase() {
  const was = byId("case").open;
  if (was) byId("case").close();
  return was;
}

function drawCase(shot) {
  const row = data.rows[opened.rows[0]];
  const group = groupOf(row, placeOf(opened.rows[0], opened.name));
  byId("case-title").replaceChildren(
    opened.name, " ", make("span", { className: "on-data", textContent: `${row.dataset}${group ? `, ${group}` : ""}` }));
  drawChoices(row);
  byId("sides").replaceChildren(...opened.rows.filter((r) => r !== null).map(drawSide));
  byId("slice-label").hidden = !shot || shot.slices < 2;
  byId("slice").max = shot ? shot.slices - 1 : 0;
  byId("case-legend").replaceChildren(...row.labels.flatMap(([name, ink]) => {
    const chip = make("span", { className: "chip" });
    chip.style.background = ink;
    return [chip, ` ${name} `];
  }), make("span", { className: "heat" }), " little to most disagreement");
  drawScores();
  showLayers();
  showSlice();
}

function drawChoices(row) {
  const rows = data.rows.map((one, r) => ({ one, r })).filter(({ one, r }) => one.dataset === row.dataset && placeOf(r, opened.name) >= 0);
  opened.rows.forEach((chosen, side) => {
    const options = rows.map(({ one, r }) => new Option(shotOf(r, opened.name) ? one.method : `${one.method} (no picture)`, r));
    if (side === 1) options.unshift(new Option("nothing", ""));
    byId(`side-${side}`).replaceChildren(...options);
    byId(`side-${side}`).value = chosen === null ? "" : String(chosen);
  });
}

function layer(file, alt, kind) {
  const picture = make("img", { src: `pictures/${file}`, alt });
  if (kind) picture.dataset.layer = kind;
  return picture;
}

function drawSide(r) {
  const row = data.rows[r];
  const shot = shotOf(r, opened.name);
  const title = make("h3", { textContent: row.method });
  if (!shot) {
    const why = "No picture: the gallery of this run keeps its worst cases and some of the middle, and those that others share.";
    return make("section", {}, title, make("p", { className: "small", textContent: why }));
  }
  const stack = make("div", { className: "stack" },
    layer(shot.image, `Image of ${opened.name}`), layer(shot.prediction, shot.said, "prediction"),
    ...(shot.disagreement ? [layer(shot.disagreement, `Disagreement: ${shot.agreement}`, "disagreement")] : []),
    layer(shot.reference, shot.about, "reference"));
  for (const [name, value] of [["w", shot.width], ["h", shot.height], ["n", shot.columns]]) stack.style.setProperty(`--${name}`, value);
  stack.dataset.columns = shot.columns;
  stack.dataset.slices = shot.slices;
  stack.addEventListener("wheel", (event) => {
    if (shot.slices < 2) return;
    event.preventDefault();
    moveSlice(Math.sign(event.deltaY));
  }, { passive: false });
  const seeds = row.seeds.includes(",") ? ` Picture of seed ${shot.seed}; scores are means over seeds ${row.seeds}.` : "";
  return make("section", {}, title, stack, make("p", { className: "small", textContent: `${shot.agreement}.${seeds}` }));
}

function showLayers() {
  for (const kind of LAYERS) {
    for (const picture of byId("sides").querySelectorAll(`[data-layer="${kind}"]`)) {
      picture.hidden = !byId(`show-${kind}`).checked;
      picture.style.opacity = byId("opacity").value;
    }
  }
}

function showSlice() {
  const shot = opened.rows.map((r) => r !== null && shotOf(r, opened.name)).find(Boolean);
  if (!shot) return;
  byId("slice").value = opened.slice;
  byId("slice-number").textContent = shot.first < 0 ? "" : String(shot.first + opened.slice);
  for (const stack of byId("sides").querySelectorAll(".stack")) {
    const [columns, slices] = [Number(stack.dataset.columns), Number(stack.dataset.slices)];
    const at = Math.min(opened.slice, slices - 1);
    stack.style.setProperty("--x", at % columns);
    stack.style.setProperty("--y", Math.floor(at / columns));
  }
}

function moveSlice(step) {
  opened.slice = Math.max(0, Math.min(Number(byId("slice").max), opened.slice + step));
  showSlice();
}

function drawScores() {
  const sides = opened.rows.filter((r) => r !== null);
  const at = sides.map((r) => placeOf(r, opened.name));
  const heads = ["Metric", ...sides.map((r) => data.rows[r].method)];
  const head = make("tr", {}, ...heads.map((textContent, i) => make("th", { scope: "col", textContent, className: i ? "" : "t" })));
  const lines = metricNames.filter((name) => sides.some((r) => data.rows[r].values[name])).map((name) => {
    const values = sides.map((r, side) => (data.rows[r].values[name] || [])[at[side]]);
    const best = bestOf(name, values);
    return make("tr", {}, make("th", { scope: "row", textContent: heading(name) }), ...values.map((value, side) => {
      const why = (data.rows[sides[side]].why[name] || {})[data.rows[sides[side]].cases[at[side]]];
      const text = printed(name, value) + (value === null && why ? ` (${why})` : "");
      return make("td", {}, best === side ? make("strong", { textContent: text }) : text);
    }));
  });
  byId("case-scores").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)));
}

function bestOf(metric, values) {
  const { better } = data.metrics[metric];
  const [a, b] = values.map(asNumber);
  if (values.length < 2 || better === "none" || a === b || Number.isNaN(a) || Number.isNaN(b)) return -1;
  return (a > b) === (better === "higher") ? 0 : 1;
}

function caseHash() {
  const [first, second] = [byId("side-0").value, byId("side-1").value];
  return `#case/${first}/${encodeURIComponent(opened.name)}${second === "" ? "" : `/${second}`}`;
}

// Through the cases as the browser has them filtered and sorted; the method beside stays.
function moveCase(step) {
  const row = data.rows[opened.rows[0]];
  const places = browser.shown.map((i) => entries[i]);
  const here_ = places.findIndex(({ r, at }) => r === opened.rows[0] && caseOf(row, at) === opened.name);
  const next = places[here_ + step];
  if (here_ < 0 || !next) return;
  const other = opened.rows[1];
  const beside = other !== null && data.rows[other].dataset === data.rows[next.r].dataset ? `/${other}` : "";
  location.replace(caseLink(next) + beside);
}

function leaveCase() {
  // The address of the view behind, so that going back and forth opens and closes the case.
  location.hash = `#${here.id}`;
}

function keysInCase(event) {
  if (event.target.matches("select, input:not([type=checkbox])")) return;
  const actions = {
    ArrowLeft: () => moveCase(-1), ArrowRight: () => moveCase(1), ArrowUp: () => moveSlice(-1), ArrowDown: () => moveSlice(1),
  };
  for (const kind of LAYERS) actions[kind[0]] = () => byId(`show-${kind}`).click();
  if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  actions[event.key]();
}

function startViewer() {
  for (const side of [0, 1]) byId(`side-${side}`).addEventListener("change", () => location.replace(caseHash()));
  for (const kind of LAYERS) byId(`show-${kind}`).addEventListener("change", showLayers);
  byId("opacity").addEventListener("input", showLayers);
  byId("slice").addEventListener("input", () => { opened.slice = Number(byId("slice").value); showSlice(); });
  byId("case-back").addEventListener("click", () => moveCase(-1));
  byId("case-next").addEventListener("click", () => moveCase(1));
  byId("case-close").addEventListener("click", leaveCase);
  byId("case").addEventListener("cancel", (event) => { event.preventDefault(); leaveCase(); });
  byId("case").addEventListener("keydown", keysInCase);
}

startTheme();
startRecorded();
startTables();
startPrint();
startLive();
startCases();
startViewer();
addEventListener("hashchange", route);
route();
