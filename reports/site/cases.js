// The case browser: rows of a table that exist only while they are on show, sorted and filtered by columns.

const ROW = 34; // pixels, as in style.css
const SPARE = 8; // rows drawn above and below the window
const FIRST_COLUMNS = ["Dice", "IoU", "HD95", "NSD"];
const DASH = "\u2013";

const data = JSON.parse(byId("cases-data").textContent);
const metricNames = Object.keys(data.metrics).sort((a, b) => rank(a) - rank(b));
// An entry is a method's case: its row, and its place in the row's columns.
const entries = data.rows.flatMap((row, r) => row.cases.map((_, at) => ({ r, at, text: entryText(row, at) })));
const sortKeys = new Map();
const browser = { shown: [], order: [], sort: null, falling: false, active: 0, columns: firstColumns() };

function rank(metric) {
  const place = FIRST_COLUMNS.indexOf(metric);
  return place < 0 ? FIRST_COLUMNS.length : place;
}

function firstColumns() {
  const known = FIRST_COLUMNS.filter((name) => name in data.metrics);
  return new Set(known.length ? known : metricNames.slice(0, 4));
}

function entryText(row, at) {
  const group = groupOf(row, at);
  return `${caseOf(row, at)} ${group} ${row.method} ${row.dataset}`.toLowerCase();
}

function caseOf(row, at) {
  return data.cases[row.dataset][row.cases[at]];
}

function groupOf(row, at) {
  const groups = data.groups[row.dataset];
  return groups ? groups[row.cases[at]] : "";
}

// As the tables print it: a fixed number of digits, or the text that came instead.
function printed(metric, value) {
  if (value === null || value === undefined) return DASH;
  if (typeof value === "string") return value;
  const digits = data.metrics[metric].digits;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function heading(metric) {
  const { unit, better } = data.metrics[metric];
  return metric + (unit ? ` (${unit})` : "") + ({ higher: " \u2191", lower: " \u2193" }[better] || "");
}

function asNumber(value) {
  if (value === null || value === undefined) return NaN;
  if (typeof value === "number") return value;
  return value.includes("\u221e") ? (value.startsWith("-") ? -Infinity : Infinity) : Number(value);
}

function keysOf(metric) {
  if (!sortKeys.has(metric)) {
    const keys = new Float64Array(entries.length);
    entries.forEach(({ r, at }, i) => { keys[i] = asNumber((data.rows[r].values[metric] || [])[at]); });
    sortKeys.set(metric, keys);
  }
  return sortKeys.get(metric);
}

// Undefined values come last whichever way it is sorted.
function sortEntries() {
  const { sort, falling } = browser;
  const all = entries.map((_, i) => i);
  const sign = falling ? -1 : 1;
  if (sort === null) browser.order = all;
  else if (sort === "case") {
    const name = ({ r, at }) => caseOf(data.rows[r], at);
    const places = new Map([...new Set(entries.map(name))].sort().map((text, place) => [text, place]));
    const keys = entries.map((entry) => places.get(name(entry)));
    browser.order = all.sort((a, b) => sign * (keys[a] - keys[b]));
  } else {
    const keys = keysOf(sort);
    const defined = all.filter((i) => !Number.isNaN(keys[i])).sort((a, b) => (keys[a] === keys[b] ? 0 : sign * (keys[a] - keys[b])));
    browser.order = defined.concat(all.filter((i) => Number.isNaN(keys[i])));
  }
}

function filterEntries() {
  const [dataset, method] = [byId("filter-dataset").value, byId("filter-method").value];
  const words = byId("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const pictured = byId("filter-pictures").checked;
  browser.shown = browser.order.filter((i) => {
    const { r, at, text } = entries[i];
    const row = data.rows[r];
    return (!dataset || row.dataset === dataset) && (!method || row.method === method)
      && (!pictured || row.cases[at] in row.shots) && words.every((word) => text.includes(word));
  });
  browser.active = 0;
  byId("count").textContent = `${browser.shown.length.toLocaleString("en-US")} of ${entries.length.toLocaleString("en-US")} cases`;
}

function update() {
  sortEntries();
  filterEntries();
  drawHead();
  byId("rows").scrollTop = 0;
  drawRows();
}

function headCell(key, text, words) {
  const button = make("button", { type: "button", textContent: text });
  const cell = make("th", { scope: "col", className: words ? "t" : "" }, button);
  const sorted = browser.sort === key;
  if (sorted) cell.setAttribute("aria-sort", browser.falling ? "descending" : "ascending");
  button.addEventListener("click", () => {
    browser.falling = sorted && !browser.falling;
    browser.sort = key;
    update();
    const buttons = [...byId("rows").querySelectorAll("thead button")];
    buttons.find((other) => other.textContent === text).focus();
  });
  return cell;
}

function drawHead() {
  const columns = metricNames.filter((name) => browser.columns.has(name));
  const words = ["Method", "Data set"].map((text) => make("th", { scope: "col", className: "t", textContent: text }));
  byId("rows").querySelector("thead tr").replaceChildren(
    headCell("case", "Case", true), ...words, ...columns.map((name) => headCell(name, heading(name), false)));
  byId("rows").querySelector("table").setAttribute("aria-rowcount", String(browser.shown.length + 1));
}

function caseLink(entry) {
  const row = data.rows[entry.r];
  return `#case/${entry.r}/${encodeURIComponent(caseOf(row, entry.at))}`;
}

function drawRow(place) {
  const entry = entries[browser.shown[place]];
  const row = data.rows[entry.r];
  const link = make("a", { href: caseLink(entry), textContent: caseOf(row, entry.at), tabIndex: place === browser.active ? 0 : -1 });
  const pictured = row.cases[entry.at] in row.shots;
  const cells = metricNames.filter((name) => browser.columns.has(name)).map((name) => {
    const why = (row.why[name] || {})[row.cases[entry.at]];
    return make("td", { textContent: printed(name, (row.values[name] || [])[entry.at]), title: why ? `undefined: ${why}` : "" });
  });
  const head = make("th", { scope: "row" }, link, make("span", { className: "small", textContent: pictured ? " picture" : "" }));
  const words = [row.method, row.dataset].map((text) => make("td", { className: "t", textContent: text }));
  const line = make("tr", {}, head, ...words, ...cells);
  line.dataset.place = place;
  line.setAttribute("aria-rowindex", String(place + 2));
  return line;
}

function spacer(rows) {
  const cell = make("td", { colSpan: 3 + browser.columns.size });
  cell.style.height = `${rows * ROW}px`;
  const line = make("tr", { className: "space" }, cell);
  line.setAttribute("aria-hidden", "true");
  return line;
}

function drawRows() {
  const box = byId("rows");
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
  const last = Math.min(browser.shown.length, first + Math.ceil((box.clientHeight || 600) / ROW) + 2 * SPARE);
  const lines = [];
  if (first > 0) lines.push(spacer(first));
  for (let place = first; place < last; place += 1) lines.push(drawRow(place));
  if (last < browser.shown.length) lines.push(spacer(browser.shown.length - last));
  const had = box.querySelector("tbody").contains(document.activeElement);
  box.querySelector("tbody").replaceChildren(...lines);
  if (had) focusRow(false);
}

function focusRow(scroll) {
  const box = byId("rows");
  if (scroll) {
    const top = browser.active * ROW;
    const room = box.clientHeight - box.querySelector("thead").offsetHeight - ROW;
    box.scrollTop = Math.min(top, Math.max(box.scrollTop, top - room));
    drawRows();
  }
  const link = box.querySelector(`tr[data-place="${browser.active}"] a`);
  (link || box).focus({ preventScroll: true });
}

function moveInRows(event) {
  const page = Math.max(1, Math.floor(byId("rows").clientHeight / ROW) - 2);
  const end = browser.shown.length - 1;
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -end, End: end }[event.key];
  if (step === undefined || event.target.closest("thead")) return;
  event.preventDefault();
  const inRows = event.target.closest("tbody");
  browser.active = Math.max(0, Math.min(end, inRows || Math.abs(step) > 1 ? browser.active + step : browser.active));
  focusRow(true);
}

function chooseRow(r) {
  const row = data.rows[r];
  if (!row) return;
  byId("filter-dataset").value = row.dataset;
  byId("filter-method").value = row.method;
  byId("filter-text").value = "";
  update();
}

function fillChoices() {
  const fill = (id, names) => byId(id).append(...[...new Set(names)].sort().map((name) => new Option(name, name)));
  fill("filter-dataset", data.rows.map((row) => row.dataset));
  fill("filter-method", data.rows.map((row) => row.method));
  for (const name of metricNames) {
    const box = make("input", { type: "checkbox", checked: browser.columns.has(name) });
    box.addEventListener("change", () => {
      if (box.checked) browser.columns.add(name);
      else browser.columns.delete(name);
      drawHead();
      drawRows();
    });
    byId("metrics").querySelector(".ticks").append(make("label", { className: "tick" }, box, ` ${heading(name)}`));
  }
}

function startCases() {
  fillChoices();
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  for (const name of ["dataset", "method", "text", "pictures"]) byId(`filter-${name}`).addEventListener("input", () => {
    filterEntries();
    drawHead();
    byId("rows").scrollTop = 0;
    drawRows();
  });
  let waiting = false;
  byId("rows").addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; drawRows(); });
  });
  byId("rows").addEventListener("keydown", moveInRows);
  addEventListener("resize", () => { if (here === byId("cases")) drawRows(); });
  update();
}
