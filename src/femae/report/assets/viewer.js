// The page of a film: state, film, timeline, hover, keyboard. Texts reach the page through textContent only.

const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const state = {view: [data.start_s, data.end_s], at: 0, hidden: new Set(), lit: null, printing: false, step: data.step, ink: data.ink};
let times, tracks, panels = [], video = $("film"), redrawAsked = false;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value); else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function bytesOf(id) {
  const text = atob($(id).textContent.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function unzipped(id) {
  return new Response(new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function readTracks(buffer) {
  times = new Float64Array(buffer, 0, data.num_frames);
  tracks = data.tracks.map((info, number) => {
    const frames = new Uint32Array(buffer, info.frames_at, info.length);
    const columns = info.columns_at.map(at => new Uint16Array(buffer, at, info.length));
    const track = {...info, number, frames, values: columns, certainty: columns[columns.length - 1], label: new Uint8Array(buffer, info.labels_at, info.length)};
    track.times = Float64Array.from(frames, frame => times[frame - 1]);
    const emotions = data.groups[0].series.map(series => columns[series.column]);
    const sumAt = row => emotions.reduce((sum, column) => sum + (column[row] === 65535 ? 0 : column[row] * info.scale), 0);
    track.weak = Uint8Array.from(frames, (_, row) => data.clear_sum !== null && sumAt(row) < data.clear_sum ? 1 : 0);
    track.part = new Uint32Array(info.length);
    for (let i = 0, part = 0; i < info.length; i++) { while (frames[i] > info.parts[part][1]) part++; track.part[i] = part; }
    return track;
  });
}

/** Row of a track at a frame, or the nearest earlier one of the same stretch; -1: the face is not there. */
function rowAt(track, frame) {
  const row = lastAtMost(track.frames, frame);
  return row >= 0 && frame <= track.parts[track.part[row]][1] ? row : -1;
}

function frameAt(time) { return Math.max(0, lastAtMost(times, time + 1e-4)); }

function swatch(series) {
  const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 26 12"); svg.setAttribute("aria-hidden", "true");
  const shapes = {circle: "M17 6a4 4 0 1 1-8 0a4 4 0 1 1 8 0", square: "M9.4 2.4h7.2v7.2h-7.2z", triangle: "M13 1l5 8.5h-10z", diamond: "M13 1l5 5l-5 5l-5-5z",
    cross: "M9 4.4l1.6-2.4L13 4l2.4-2L17 4.4L15.4 6L17 7.6L15.4 10L13 8l-2.4 2L9 7.6L10.600 6z", inverted: "M13 11l5-8.500h-10z",
    plus: "M11.400 1.200h3.200v3.200h3.200v3.200h-3.200v3.200h-3.200v-3.200h-3.200v-3.200h3.200z", star: "M13 .6l1.500 3.600 3.900.2-3 2.500 1 3.800-3.400-2.100-3.400 2.100 1-3.800-3-2.500 3.900-.2z"};
  const [colour, second] = series.colours.map(name => name === "black" ? "var(--black)" : name);
  for (const [d, width] of [["M0 6H26", series.cased ? 3.4 : 0], ["M0 6H26", 2], ["M0 6H5M19 6H26", second ? 2.1 : 0], [shapes[SYMBOLS[series.symbol % SYMBOLS.length]], 1]]) {
    if (!width) continue;
    const path = document.createElementNS(ns, "path");
    path.setAttribute("d", d); path.setAttribute("stroke-width", width);
    path.style.stroke = width === 2 ? colour : width === 2.1 ? second : series.cased ? "var(--casing)" : "none";
    path.style.fill = width === 1 ? second || colour : "none";
    if (width === 2 && series.dash.length) path.setAttribute("stroke-dasharray", series.dash.join(" "));
    svg.append(path);
  }
  return svg;
}

/** The mark of a label, as parts.html.j2 draws it. */
function mark(info) {
  const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), high = 2 / info.colours.length;
  for (const [name, value] of [["class", info.quiet ? "swatch quiet" : "swatch"], ["viewBox", "0 0 2 2"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
  info.colours.forEach((colour, n) => {
    const part = document.createElementNS(ns, "rect");
    for (const [name, value] of [["y", n * high], ["width", 2], ["height", high], ["fill", colour]]) part.setAttribute(name, value);
    svg.append(part);
  });
  return svg;
}

/** Mark, name and number of the label of a row. */
function labelParts(track, row) {
  const info = data.labels[track.label[row]], raw = track.certainty[row];
  return info ? [mark(info), raw === 65535 ? info.name : `${info.name} ${(raw * track.scale).toFixed(2)}`] : ["abstained"];
}

function redraw() {
  if (redrawAsked) return;
  redrawAsked = true;
  requestAnimationFrame(() => { redrawAsked = false; drawNow(); });
}

function drawNow() {
  for (const panel of panels) if (!panel.root.hidden) panel.draw();
  $("range").textContent = timeText(state.view[0], 1) + " to " + timeText(state.view[1], 1);
  placeHead();
}

function placeHead() {
  const axis = axisOf(state.view, $("timeline").clientWidth), time = times[state.at], head = $("playhead");
  head.hidden = time < state.view[0] - 1e-6 || time > state.view[1] + 1e-6;
  head.style.transform = `translateX(${axis.x(time)}px)`;
}

function setView(from, to) {
  const total = data.end_s - data.start_s, span = Math.min(total, Math.max(to - from, Math.min(total, 4 * data.step)));
  const start = Math.min(Math.max(from, data.start_s), data.end_s - span);
  state.view = [start, start + span];
  redraw();
}

function zoom(factor, around = times[state.at]) {
  const [from, to] = state.view, middle = around >= from && around <= to ? around : (from + to) / 2;
  setView(middle - (middle - from) * factor, middle + (to - middle) * factor);
}

function buildLegend(group, holder) {
  holder.append(element("span", {class: "name"}, group.name));
  for (const series of group.series) {
    const key = element("button", {class: "key", type: "button", "aria-pressed": "true", title: "show or hide " + series.name}, swatch(series), series.name);
    if (series.code) key.append(element("small", {}, series.code));
    const light = name => { state.lit = name; redraw(); };
    key.addEventListener("click", () => {
      const shown = state.hidden.has(series.key);
      if (shown) state.hidden.delete(series.key); else state.hidden.add(series.key);
      key.setAttribute("aria-pressed", String(shown));
      redraw();
    });
    key.addEventListener("pointerenter", () => light(series.key)); key.addEventListener("pointerleave", () => light(null));
    key.addEventListener("focus", () => key.matches(":focus-visible") && light(series.key)); key.addEventListener("blur", () => light(null));
    holder.append(key);
  }
}

function faceImage(track, size) { return track.thumb ? [element("img", {src: track.thumb, alt: "", width: size, height: size})] : []; }

function buildPanels() {
  const lanes = $("lanes"), charts = $("charts");
  for (const track of tracks) {
    const canvas = element("canvas", {role: "img", "aria-label": `${track.name}: ${track.summary}`});
    const lane = element("div", {class: "lane", "data-track": track.number}, element("span", {class: "who"}, ...faceImage(track, 26), track.short), canvas);
    lanes.append(lane);
    panels.push({root: lane, track, kind: "lane", draw: () => { lane.classList.toggle("off", !track.on); drawLane(canvas, track, data.labels, state); }});
    const pane = element("div", {class: "pane", "data-track": track.number});
    for (const group of data.groups) {
      const chart = element("canvas", {role: "img", "aria-label": `${track.name}, ${group.name} over time; the table holds the numbers`});
      pane.append(element("h3", {}, `${track.name}: ${group.name}`), chart);
      panels.push({root: pane, track, kind: "lines", group, canvas: chart, draw: () => drawLines(chart, track, group, state)});
    }
    charts.append(pane);
  }
  if (!data.gaps.length) return;
  const canvas = element("canvas", {role: "img", "aria-label": data.gaps_text});
  const lane = element("div", {class: "lane gaps"}, element("span", {class: "who"}, "gaps"), canvas);
  lanes.append(lane);
  panels.push({root: lane, kind: "gaps", draw: () => drawGaps(canvas, data.gaps, state)});
}

function buildFaces() {
  for (const track of tracks) {
    const chip = element("button", {class: "chip", type: "button", "data-track": track.number, "aria-pressed": String(track.on), title: track.summary},
      ...faceImage(track, 28), element("span", {class: "label"}, track.name));
    if (track.number < 9) chip.append(element("kbd", {class: "no-print"}, String(track.number + 1)));
    chip.addEventListener("click", () => toggleFace(track));
    $("faces").append(chip);
    const bars = data.groups[0].series.map(series => {
      const bar = element("i"), value = element("span", {class: "n"});
      bar.style.background = series.colours[0];
      return {series, bar, value, row: element("div", {class: "row"}, element("span", {}, series.name), element("span", {}, bar), value)};
    });
    track.word = element("b");
    track.bars = bars;
    track.card = element("article", {"data-track": track.number}, element("h3", {}, ...faceImage(track, 34), track.name, track.word), ...bars.map(bar => bar.row));
    $("now").append(track.card);
  }
  showFaces();
}

function toggleFace(track) { track.on = !track.on; showFaces(); redraw(); showNow(); }

function showFaces() {
  const filtered = tracks.some(track => track.on) ? track => track.on : () => false;
  for (const chip of $("faces").querySelectorAll("[data-track]")) chip.setAttribute("aria-pressed", String(tracks[chip.dataset.track].on));
  for (const pane of $("charts").children) pane.hidden = !filtered(tracks[pane.dataset.track]);
  for (const card of document.querySelectorAll("[data-face]")) card.hidden = !tracks[card.dataset.face].on;
  for (const track of tracks) track.card.hidden = !track.on;
}

/** The readings beside the film. */
function showNow() {
  const frame = state.at + 1;
  $("clock").textContent = `${timeText(times[state.at])} · frame ${frame.toLocaleString("en")}`;
  $("seek").value = state.at;
  $("seek").setAttribute("aria-valuetext", `${timeText(times[state.at])}, frame ${frame}`);
  for (const track of tracks) {
    if (!track.on) continue;
    const row = rowAt(track, frame);
    track.word.replaceChildren(...(row < 0 ? ["not in this frame"] : labelParts(track, row)));
    for (const {series, bar, value} of track.bars) {
      const raw = row < 0 ? 65535 : track.values[series.column][row], number = raw * track.scale;
      bar.style.width = raw === 65535 ? "0" : `${Math.min(100, number / data.groups[0].top * 100)}%`;
      value.textContent = raw === 65535 ? "" : number.toFixed(2);
    }
  }
  placeHead();
}

function setFrame(position) { state.at = Math.min(Math.max(0, position), data.num_frames - 1); showNow(); }

/** Go to a frame, in the film too: a little behind its start, so that rounding cannot show the one before. */
function seekFrame(position) {
  setFrame(position);
  if (times[state.at] < state.view[0] || times[state.at] > state.view[1]) { const half = (state.view[1] - state.view[0]) / 2; setView(times[state.at] - half, times[state.at] + half); }
  if (video) video.currentTime = times[state.at] - data.film_offset_s + data.step * .25;
}

function followFilm() {
  // a picture of before may still come while a new place is being sought; it must not take the page back
  const show = seconds => { if (!video.seeking) setFrame(frameAt(seconds + data.film_offset_s)); };
  if (video.requestVideoFrameCallback) {
    const next = (now, meta) => { show(meta.mediaTime + data.step * .1); video.requestVideoFrameCallback(next); };
    video.requestVideoFrameCallback(next);
  } else {
    const next = () => { if (!video.paused) show(video.currentTime); requestAnimationFrame(next); };
    next();
  }
  video.addEventListener("seeked", () => show(video.currentTime));
  for (const kind of ["play", "pause", "ended"]) video.addEventListener(kind, () => {
    $("play").textContent = video.paused ? "▶ Play" : "⏸ Pause";
  });
}

function tipRows(track, groups, row) {
  const table = element("table");
  for (const group of groups) {
    const shown = group.series.filter(series => !state.hidden.has(series.key) && track.values[series.column][row] !== 65535);
    shown.sort((a, b) => track.values[b.column][row] - track.values[a.column][row]);
    for (const series of shown) table.append(element("tr", {}, element("td", {}, swatch(series)), element("td", {}, series.name), element("td", {class: "n"}, (track.values[series.column][row] * track.scale).toFixed(3))));
  }
  return table;
}

function gapAt(frame) { return data.gaps.find(gap => gap.from_frame <= frame && frame <= gap.to_frame); }

function showTip(event) {
  const tip = $("tip"), box = $("timeline").getBoundingClientRect(), x = event.clientX - box.left;
  const panel = panels.find(p => p.root.contains(event.target) && (p.kind !== "lines" || p.canvas === event.target));
  if (!panel || x < LEFT || x > box.width - RIGHT + 2) { tip.hidden = true; return; }
  const position = frameAt(axisOf(state.view, box.width).t(x)), frame = position + 1, gap = gapAt(frame);
  tip.replaceChildren(element("b", {}, `${timeText(times[position])} · frame ${frame.toLocaleString("en")}`));
  const row = panel.track ? rowAt(panel.track, frame) : -1;
  if (row >= 0) {
    tip.append(`${panel.track.name}: `, ...labelParts(panel.track, row), panel.track.weak[row] ? ", nothing clear" : "");
    if (panel.kind === "lines") tip.append(tipRows(panel.track, [panel.group], row));
  } else tip.append(gap ? (gap.status === "unreadable" ? "frame cannot be decoded" : "no face in this frame") : panel.track ? `${panel.track.name} is not in this frame` : "no gap here");
  tip.hidden = false;
  const wide = tip.offsetWidth, high = tip.offsetHeight;
  tip.style.left = Math.max(4, event.clientX + 16 + wide > innerWidth ? event.clientX - wide - 12 : event.clientX + 16) + "px";
  tip.style.top = Math.min(Math.max(4, event.clientY - high / 2), innerHeight - high - 4) + "px";
}

/** Click: go there. Drag: zoom to the part. Wheel with Ctrl or Shift: zoom around the pointer. */
function listenTimeline() {
  const holder = $("timeline"), brush = $("brush");
  let down = null;
  const xOf = event => Math.min(Math.max(event.clientX - holder.getBoundingClientRect().left, LEFT), holder.clientWidth - RIGHT);
  const timeOf = x => axisOf(state.view, holder.clientWidth).t(x);
  holder.addEventListener("pointerdown", event => { if (event.button === 0 && event.target.tagName === "CANVAS") down = xOf(event); });
  holder.addEventListener("pointermove", event => {
    showTip(event);
    if (down === null) return;
    const x = xOf(event);
    brush.hidden = Math.abs(x - down) < 6 || event.pointerType === "touch";
    brush.style.left = Math.min(x, down) + "px"; brush.style.width = Math.abs(x - down) + "px";
  });
  addEventListener("pointerup", event => {
    if (down === null) return;
    const x = xOf(event), from = down;
    down = null;
    if (!brush.hidden) { brush.hidden = true; setView(timeOf(Math.min(x, from)), timeOf(Math.max(x, from))); }
    else if (Math.abs(x - from) < 6) seekFrame(frameAt(timeOf(x)));
  });
  holder.addEventListener("pointercancel", () => { down = null; brush.hidden = true; });
  holder.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  holder.addEventListener("dblclick", () => setView(data.start_s, data.end_s));
  holder.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    zoom((event.deltaY || event.deltaX) > 0 ? 1.25 : .8, timeOf(xOf(event)));
  }, {passive: false});
}

function togglePlay() { if (video) { if (video.paused) video.play(); else video.pause(); } }

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const jump = event.shiftKey ? Math.max(1, Math.round(1 / data.step)) : 1, key = event.key;
  const ownKeys = event.target.tagName === "BUTTON" || event.target.tagName === "SUMMARY" || event.target.tagName === "A";
  if (key === " " && !ownKeys) togglePlay();
  else if (key === "ArrowRight" || key === "ArrowLeft") { if (video) video.pause(); seekFrame(state.at + (key === "ArrowRight" ? jump : -jump)); }
  else if (key === "Home") seekFrame(0);
  else if (key === "End") seekFrame(data.num_frames - 1);
  else if (/^[1-9]$/.test(key) && tracks[key - 1]) toggleFace(tracks[key - 1]);
  else if (key === "+" || key === "=") zoom(.5);
  else if (key === "-") zoom(2);
  else if (key === "0") setView(data.start_s, data.end_s);
  else if (key === "a") { const on = !tracks.every(track => track.on); tracks.forEach(track => { track.on = on; }); showFaces(); redraw(); showNow(); }
  else if (key === "t") switchTheme();
  else return;
  event.preventDefault();
}

function listenControls() {
  const on = (id, act) => { const node = $(id); if (node) node.addEventListener("click", act); };
  on("play", togglePlay); on("back", () => seekFrame(state.at - 1)); on("forward", () => seekFrame(state.at + 1));
  on("zoom-in", () => zoom(.5)); on("zoom-out", () => zoom(2)); on("zoom-all", () => setView(data.start_s, data.end_s));
  on("faces-all", () => { tracks.forEach(track => { track.on = true; }); showFaces(); redraw(); showNow(); });
  if ($("speed")) $("speed").addEventListener("change", event => { video.playbackRate = Number(event.target.value); });
  $("seek").addEventListener("input", event => seekFrame(Number(event.target.value)));
  $("seek").addEventListener("keydown", event => { if (/^(Home|End|Arrow)/.test(event.key)) event.preventDefault(); });
  for (const node of document.querySelectorAll("[data-seek]")) node.addEventListener("click", () => { seekFrame(Number(node.dataset.seek) - 1); $("stage").scrollIntoView({block: "start"}); });
  document.addEventListener("keydown", onKey);
  new ResizeObserver(redraw).observe($("timeline"));
  document.addEventListener("themechange", redraw);
  matchMedia("print").addEventListener("change", event => { state.printing = event.matches; drawNow(); });
}

async function start() {
  readTracks(await unzipped("blob-data"));
  state.at = 0;
  data.groups.forEach(group => buildLegend(group, $("legend").appendChild(element("div", {class: "chips", role: "group", "aria-label": group.name}))));
  buildPanels(); buildFaces(); listenTimeline(); listenControls();
  drawNow(); showNow();
  document.documentElement.dataset.ready = "1";
  if (video) setTimeout(() => { followFilm(); video.src = URL.createObjectURL(new Blob([bytesOf("blob-film")], {type: "video/mp4"})); $("blob-film").remove(); });
}
start();
