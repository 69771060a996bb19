"use strict";
// The gallery of a report: it sorts and filters the faces, and draws those that are in view.
// All it shows is in the page, as JSON (kptools/viz/gallery.py); texts are set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const STEPS = 32, NOWHERE = -32768, GAP = 10, LINES = 40;
  const gallery = $("gallery"), dialog = $("large");
  let shown = [];            // indices of the faces that pass the filters, in order
  let columns = 1, across = 0, down = 0;
  const tiles = new Map();   // by place: the tiles in view
  let open = -1;             // place of the face that is shown large

  const percent = (value) => value == null ? "–" : `${(100 * value).toFixed(2)} %`;

  function points(packed) {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const steps = new Int16Array(bytes.buffer), found = [];
    for (let i = 0; i < steps.length; i += 2) {
      found.push(steps[i] === NOWHERE ? null : [steps[i] / STEPS + 0.5, steps[i + 1] / STEPS + 0.5]);
    }
    return found;
  }

  // What is chosen above the gallery; read once for all faces, since a page is slow to ask
  let chosen = {};

  function choose() {
    const value = (id) => $(id).value;
    chosen = { sort: value("sort"), run: Number(value("run")), region: value("region"),
      split: value("split"), status: value("status"), flag: value("flag"),
      text: value("search").toLowerCase() };
  }

  // The error of a face in a run, of the chosen region or of all points; null where there is none
  function error(face, run) {
    const found = face.runs[run], region = chosen.region;
    return (region ? found.regions && found.regions[region] : found.error) ?? null;
  }

  const failed = (face, run) => !["ok", "absent"].includes(face.runs[run].status);
  const negative = (value) => value == null ? null : -value;

  function difference(face) {
    const a = error(face, 0), b = error(face, 1);
    return a == null || b == null ? null : b - a;
  }

  // What faces are sorted by, the largest first; null is last
  const ORDERS = {
    worst: (face) => failed(face, chosen.run) ? Infinity : error(face, chosen.run),
    best: (face) => negative(error(face, chosen.run)),
    unsure: (face) => negative(face.runs[chosen.run].score),
    sure: (face) => face.runs[chosen.run].score,
    worse: difference,
    better: (face) => negative(difference(face)),
    given: (face, index) => -index,
  };

  function passes(face) {
    const { split, status, flag, text, region, run } = chosen;
    return (!split || face.split === split) &&
      (!flag || (flag === "*" ? face.flags.length > 0 : face.flags.includes(flag))) &&
      (!status || face.runs[run].status === status) &&
      (!region || error(face, run) != null) &&
      (!text || face.id.toLowerCase().includes(text));
  }

  function update() {
    choose();
    const order = ORDERS[chosen.sort], all = data.faces, keys = new Float64Array(all.length);
    shown = [];
    all.forEach((face, index) => {
      if (!passes(face)) return;
      keys[index] = order(face, index) ?? -Infinity;
      shown.push(index);
    });
    shown.sort((a, b) => keys[a] === keys[b] ? a - b : keys[b] - keys[a]);
    const more = data.seen > all.length ? ` (of ${data.seen}, the worst)` : "";
    $("found").textContent = `${shown.length} of ${all.length} faces${more}`;
    layout();
  }

  function layout() {
    const width = gallery.clientWidth || 300, least = Math.min(Math.max(data.side * 0.75, 110), 180);
    columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
    across = (width + GAP) / columns;
    down = across - GAP + LINES + GAP;
    gallery.style.height = `${Math.ceil(shown.length / columns) * down}px`;
    tiles.forEach((tile) => tile.remove());
    tiles.clear();
    view();
  }

  // Make the tiles that are in view, or near it, and remove the others
  function view() {
    const top = -gallery.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((top - 400) / down)) * columns;
    const last = Math.min(shown.length, Math.ceil((top + innerHeight + 400) / down) * columns);
    tiles.forEach((tile, place) => {
      if (place < first || place >= last) { tile.remove(); tiles.delete(place); }
    });
    for (let place = first; place < last; place++) {
      if (!tiles.has(place)) {
        const tile = makeTile(place);
        tiles.set(place, tile);
        gallery.append(tile);
      }
    }
  }

  function makeTile(place) {
    const face = data.faces[shown[place]], tile = document.createElement("button");
    tile.className = "tile";
    tile.type = "button";
    tile.dataset.place = place;
    tile.style.left = `${(place % columns) * across}px`;
    tile.style.top = `${Math.floor(place / columns) * down}px`;
    tile.style.width = `${across - GAP}px`;
    const canvas = document.createElement("canvas"), name = document.createElement("span");
    const note = document.createElement("span"), state = face.runs[chosen.run];
    name.textContent = face.id;
    name.title = face.id;
    note.textContent = [
      state.status === "ok" ? percent(error(face, chosen.run)) : state.status,
      state.score == null ? "" : `score ${state.score.toFixed(2)}`,
      face.flags.join(", "),
    ].filter(Boolean).join(" · ");
    tile.append(canvas, name, note);
    draw(canvas, face, chosen.run, across - GAP, true);
    tile.addEventListener("click", () => show(place));
    return tile;
  }

  // The picture of a face and its points, on a square canvas of `size` CSS pixels or, not square,
  // as wide as that
  function draw(canvas, face, which, size, square) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const [w, h] = face.size || [1, 1];
    canvas.width = size * ratio;
    canvas.height = square ? size * ratio : size * ratio * h / w;
    const zoom = Math.min(canvas.width / w, canvas.height / h);
    const pen = canvas.getContext("2d");
    if (!face.picture) {
      pen.fillStyle = "#888";
      pen.font = `${13 * ratio}px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.fillText(face.runs[which].status, canvas.width / 2, canvas.height / 2);
      return;
    }
    const image = new Image();
    image.onload = () => {
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.translate((canvas.width - zoom * w) / 2, (canvas.height - zoom * h) / 2);
      pen.imageSmoothingQuality = "high";
      pen.drawImage(image, 0, 0, zoom * w, zoom * h);
      const style = getComputedStyle(document.documentElement);
      const state = face.runs[which];
      if (face.truth && $("truth").checked) {
        marks(pen, points(face.truth), face.scheme, zoom, ratio, style.getPropertyValue("--truth"));
      }
      if (state.points && $("pred").checked) {
        marks(pen, points(state.points), face.scheme, zoom, ratio, style.getPropertyValue("--pred"));
      }
      canvas.dataset.drawn = "1";
    };
    image.src = `data:image/webp;base64,${face.picture}`;
  }

  function marks(pen, found, scheme, zoom, ratio, colour) {
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = Math.max(ratio, 0.004 * pen.canvas.width);
    const radius = Math.max(1.2 * ratio, 0.0065 * pen.canvas.width);
    const edges = $("lines").checked && data.schemes[scheme] ? data.schemes[scheme].edges : [];
    pen.globalAlpha = 0.75;
    pen.beginPath();
    for (const [a, b] of edges) {
      if (found[a] && found[b]) {
        pen.moveTo(found[a][0] * zoom, found[a][1] * zoom);
        pen.lineTo(found[b][0] * zoom, found[b][1] * zoom);
      }
    }
    pen.stroke();
    pen.globalAlpha = 1;
    for (const point of found) {
      if (!point) continue;
      pen.beginPath();
      pen.arc(point[0] * zoom, point[1] * zoom, radius, 0, 7);
      pen.fill();
    }
  }

  function show(place) {
    if (place < 0 || place >= shown.length) return;
    open = place;
    const face = data.faces[shown[place]], panels = $("panels");
    $("name").textContent = face.id;
    panels.replaceChildren();
    const runs = data.runs.length > 1 ? data.runs.map((_, n) => n) : [0];
    for (const which of runs) {
      const panel = document.createElement("div"), canvas = document.createElement("canvas");
      const list = document.createElement("dl"), state = face.runs[which];
      panel.className = "panel";
      const say = (term, text) => {
        const dt = document.createElement("dt"), dd = document.createElement("dd");
        dt.textContent = term;
        dd.textContent = text;
        list.append(dt, dd);
      };
      if (data.runs.length > 1) say("run", data.runs[which]);
      say("status", state.status);
      if (state.error !== undefined) say("NME", percent(state.error));
      if (state.score !== undefined) say("score", state.score.toFixed(3));
      for (const [name, value] of Object.entries(state.regions || {})) {
        say(name.replaceAll("_", " "), percent(value));
      }
      if (which === runs[0]) {
        say("split", face.split);
        if (face.flags.length) say("flags", face.flags.join(", "));
      }
      panel.append(canvas, list);
      panels.append(panel);
    }
    if (!dialog.open) dialog.showModal();
    [...panels.children].forEach((panel, n) => {
      const canvas = panel.querySelector("canvas");
      draw(canvas, face, runs[n], Math.min(panel.clientWidth, 560), false);
    });
  }

  function fill(id, values, first) {
    const select = $(id);
    if (first) select.append(new Option(first, ""));
    values.forEach(([value, text]) => select.append(new Option(text, value)));
    select.closest("label").hidden = values.length < (first ? 2 : 1);
  }

  const distinct = (values) => [...new Set(values)].sort().map((v) => [v, v]);
  const scored = data.faces.some((face) => face.runs.some((run) => run.error != null));
  const orders = [["unsure", "lowest score"], ["sure", "highest score"],
    ["given", "order of the records"]];
  if (scored) orders.unshift(["worst", "largest error"], ["best", "smallest error"]);
  if (data.runs.length > 1) {
    orders.push(["worse", `${data.runs[1]} is worse`], ["better", `${data.runs[1]} is better`]);
  }
  fill("sort", orders);
  fill("run", data.runs.map((name, n) => [n, name]));
  $("run").closest("label").hidden = data.runs.length < 2;
  fill("region", distinct((scored ? Object.values(data.schemes) : []).flatMap((s) => Object.keys(s.regions)))
    .map(([value]) => [value, value.replaceAll("_", " ")]), "all points");
  fill("split", distinct(data.faces.map((face) => face.split)), "all");
  fill("status", distinct(data.faces.flatMap((face) => face.runs.map((r) => r.status))), "all");
  const flags = distinct(data.faces.flatMap((face) => face.flags));
  fill("flag", flags.length ? [["*", "any"], ...flags] : [], "all");

  ["sort", "run", "region", "split", "status", "flag"].forEach((id) =>
    $(id).addEventListener("change", update));
  $("search").addEventListener("input", update);
  const redraw = () => { layout(); if (dialog.open) show(open); };
  ["truth", "pred", "lines"].forEach((id) => $(id).addEventListener("change", redraw));
  addEventListener("scroll", () => requestAnimationFrame(view), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(redraw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    const row = Math.floor(open / columns) * down;
    const top = gallery.getBoundingClientRect().top + scrollY + row;
    if (top < scrollY || top + down > scrollY + innerHeight) scrollTo(0, Math.max(0, top - 80));
    view();
    tiles.get(open)?.focus({ preventScroll: true });
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
    const toggles = { t: "truth", p: "pred", l: "lines" };
    if (toggles[event.key]) {
      $(toggles[event.key]).click();
    } else if (event.key === "/" && !dialog.open) {
      $("search").focus();
      event.preventDefault();
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft" ||
               event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
      if (dialog.open) {
        show(open + Math.sign(step));
        event.preventDefault();
      } else if (document.activeElement.classList.contains("tile")) {
        const next = Number(document.activeElement.dataset.place) + step;
        if (tiles.has(next)) { tiles.get(next).focus(); event.preventDefault(); }
      }
    }
  });
  update();
  document.documentElement.dataset.ready = "1";
})();
