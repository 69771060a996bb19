"use strict";
// The editor of points. A face's points are kept in pixels of its file, as the record has them; what
// was not moved goes back as it came. The server (kptools/viz/editor.py) saves each face at once.
(() => {
  const $ = (id) => document.getElementById(id);
  const canvas = $("canvas"), pen = canvas.getContext("2d");
  const GRAB = 14;            // CSS pixels: how near a click has to be to a point
  let list = [], place = 0;   // the faces, and the one that is shown
  let face = null, image = null;
  let points = [], visible = [], box = [], history = [], chosen = -1, dragged = null;
  let saving = false, predicted = true, kept = "";   // kept: as it is on disk, or as it came
  let scale = 1, left = 0, top = 0;   // from the picture to the canvas

  const apply = ([a, b], x, y) => [a[0] * x + a[1] * y + a[2], b[0] * x + b[1] * y + b[2]];

  function inverse([[a, b, x], [c, d, y]]) {
    const n = a * d - b * c;
    return [[d / n, -b / n, (b * y - d * x) / n], [-c / n, a / n, (c * x - a * y) / n]];
  }

  const toCanvas = ([x, y]) => {
    const [u, v] = apply(face.matrix, x, y);
    return [left + scale * u, top + scale * v];
  };
  const toFile = (u, v) => apply(face.back, (u - left) / scale, (v - top) / scale);

  async function ask(path, options) {
    const answer = await fetch(path, options);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }

  function say(text, isError = false) {
    $("state").textContent = text;
    $("state").className = isError ? "error" : "";
  }

  async function open(wanted) {
    if (wanted < 0 || wanted >= list.length) return;
    place = wanted;
    face = null;
    dragged = null;
    $("name").textContent = list[place].name;
    const mine = place;
    try {
      const found = await ask(`face/${place}`);
      const picture = new Image();
      picture.src = `picture/${place}?${Date.now()}`;
      await picture.decode();
      if (mine !== place) return;   // another one was opened meanwhile
      found.back = inverse(found.matrix);
      points = found.points.map((point) => point && [...point]);
      visible = found.visible ? [...found.visible] : points.map(() => 1);
      box = [...found.box];
      history = [];
      kept = state();
      chosen = 0;
      image = picture;
      face = found;
    } catch (error) {
      if (mine === place) say(String(error.message || error), true);
      return;
    }
    const region = $("region").value;
    $("region").replaceChildren(new Option("whole face", ""),
      ...Object.keys(face.regions).map((name) => new Option(name.replaceAll("_", " "), name)));
    if (face.regions[region]) $("region").value = region;
    say(list[place].saved ? "saved" : "");
    fit();
  }

  // Show the region that is chosen, or the whole picture
  function fit() {
    const ratio = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    if (!face) return;
    let [x0, y0, x1, y1] = [0, 0, ...face.size];
    const wanted = (face.regions[$("region").value] || []).filter((i) => points[i]);
    if (wanted.length) {
      if (!wanted.includes(chosen)) chosen = wanted[0];
      const at = wanted.map((i) => apply(face.matrix, ...points[i]));
      const xs = at.map((p) => p[0]), ys = at.map((p) => p[1]);
      [x0, y0, x1, y1] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
      const grow = Math.max(x1 - x0, y1 - y0, 20) * 0.35;
      [x0, y0, x1, y1] = [x0 - grow, y0 - grow, x1 + grow, y1 + grow];
    }
    scale = Math.min(canvas.width / (x1 - x0), canvas.height / (y1 - y0));
    left = canvas.width / 2 - scale * (x0 + x1) / 2;
    top = canvas.height / 2 - scale * (y0 + y1) / 2;
    draw();
  }

  function draw() {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!face) return;
    const ratio = devicePixelRatio || 1;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, left, top, scale * face.size[0], scale * face.size[1]);
    pen.lineWidth = 1.5 * ratio;
    pen.strokeStyle = "#ffc800";
    const corners = cornersOf(box).map(toCanvas);
    trace([...corners, corners[0]]);
    if (predicted && face.pred) {
      pen.strokeStyle = "#5b9dff";
      for (const point of face.pred) if (point) disc(toCanvas(point), 3 * ratio, false);
    }
    pen.strokeStyle = "rgb(255 60 60 / 60%)";
    for (const [a, b] of face.edges) {
      if (points[a] && points[b]) trace([toCanvas(points[a]), toCanvas(points[b])]);
    }
    points.forEach((point, i) => {
      if (!point) return;
      pen.strokeStyle = pen.fillStyle = i === chosen ? "#fff700" : "#ff2d2d";
      disc(toCanvas(point), (i === chosen ? 5 : 3.5) * ratio, Boolean(visible[i]));
    });
    const saved = list.filter((one) => one.saved).length;
    $("count").textContent = `Face ${place + 1} of ${list.length}; ${saved} saved.`;
    const name = face.names[chosen] ?? "", state = points[chosen] ?
      visible[chosen] ? `${points[chosen].map((v) => v.toFixed(1)).join(", ")}` : "hidden" : "missing";
    $("point").textContent = chosen < 0 ? "" : `Point ${chosen}, ${name}: ${state}`;
    document.documentElement.dataset.ready = String(place);
  }

  function trace(path) {
    pen.beginPath();
    path.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
    pen.stroke();
  }

  function disc([x, y], radius, filled) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    filled ? pen.fill() : pen.stroke();
  }

  const cornersOf = ([x0, y0, x1, y1]) => [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];

  const state = () => JSON.stringify([points, visible, box]);
  const changed = () => face !== null && state() !== kept;

  // Remember how it is, before it changes
  function remember() {
    history.push(state());
    if (history.length > 200) history.shift();
    say("not saved");
  }

  function undo() {
    if (!history.length) return;
    [points, visible, box] = JSON.parse(history.pop());
    say(changed() ? "not saved" : list[place].saved ? "saved" : "");
    draw();
  }

  function nearest(u, v) {
    const reach = GRAB * (devicePixelRatio || 1);
    let best = null, least = reach;
    const offer = (kind, i, at) => {
      const distance = Math.hypot(at[0] - u, at[1] - v);
      if (distance < least) { least = distance; best = { kind, i }; }
    };
    points.forEach((point, i) => point && offer("point", i, toCanvas(point)));
    if (!best) cornersOf(box).forEach((corner, i) => offer("corner", i, toCanvas(corner)));
    return best;
  }

  const at = (event) => {
    const rect = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    return [(event.clientX - rect.left) * ratio, (event.clientY - rect.top) * ratio];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!face || saving) return;
    const [u, v] = at(event);
    dragged = nearest(u, v);
    if (!dragged) {   // a missing point that is chosen is put where one clicks
      if (chosen >= 0 && !points[chosen]) { remember(); points[chosen] = toFile(u, v); draw(); }
      return;
    }
    if (dragged.kind === "point") chosen = dragged.i;
    const from = dragged.kind === "point" ? toCanvas(points[dragged.i]) :
      toCanvas(cornersOf(box)[dragged.i]);
    dragged.offset = [from[0] - u, from[1] - v];
    dragged.moved = false;
    canvas.setPointerCapture(event.pointerId);
    draw();
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!dragged || !face) return;
    if (!dragged.moved) { remember(); dragged.moved = true; }
    const [u, v] = at(event), [x, y] = toFile(u + dragged.offset[0], v + dragged.offset[1]);
    if (dragged.kind === "point") {
      points[dragged.i] = [x, y];
    } else {
      const [ix, iy] = [[0, 1], [2, 1], [2, 3], [0, 3]][dragged.i];
      const wide = [...box];
      wide[ix] = x;
      wide[iy] = y;
      if (wide[2] - wide[0] > 2 && wide[3] - wide[1] > 2) box = wide;
    }
    draw();
  });

  const drop = () => { dragged = null; };
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);

  canvas.addEventListener("wheel", (event) => {
    if (!face) return;
    event.preventDefault();
    const [u, v] = at(event), by = Math.exp(-event.deltaY / 400);
    left = u - (u - left) * by;
    top = v - (v - top) * by;
    scale *= by;
    draw();
  }, { passive: false });

  async function save() {
    if (!face || saving) return;
    saving = true;
    dragged = null;
    const mine = place, sent = state();
    const body = { points, box, visible: face.visible || visible.includes(0) ? visible : null };
    try {
      await ask(`save/${mine}`, { method: "POST", body: JSON.stringify(body) });
    } catch (error) {
      say(`not saved: ${error.message || error}`, true);
      return;
    } finally {
      saving = false;
    }
    list[mine].saved = true;
    kept = sent;
    say("saved");
    if (mine + 1 < list.length) open(mine + 1); else draw();
  }

  function leave(wanted) {
    if (saving || (changed() && !confirm("This face is not saved. Leave it?"))) return;
    open(wanted);
  }

  async function end() {
    if (saving || (changed() && !confirm("This face is not saved. End?"))) return;
    try {
      await ask("end", { method: "POST" });
    } catch (error) {
      say(String(error.message || error), true);
      return;
    }
    face = null;
    document.body.textContent = "The editor has ended; you can close this page.";
  }

  function nudge(dx, dy, far) {
    if (!face || !points[chosen]) return;
    remember();
    const step = (far ? 10 : 1) * (devicePixelRatio || 1), [u, v] = toCanvas(points[chosen]);
    points[chosen] = toFile(u + step * dx, v + step * dy);
    draw();
  }

  const KEYS = {
    Enter: save,
    n: () => leave(place + 1),
    b: () => leave(place - 1),
    u: undo,
    h: () => {
      if (points[chosen]) { remember(); visible[chosen] = visible[chosen] ? 0 : 1; draw(); }
    },
    m: () => {
      if (chosen < 0) return;
      remember();
      points[chosen] = points[chosen] ? null : (face.pred && face.pred[chosen]) || null;
      if (!points[chosen]) visible[chosen] = 1;
      draw();
    },
    p: () => { predicted = !predicted; draw(); },
    z: () => {
      const select = $("region");
      select.selectedIndex = (select.selectedIndex + 1) % select.length;
      fit();
    },
    ArrowLeft: (far) => nudge(-1, 0, far),
    ArrowRight: (far) => nudge(1, 0, far),
    ArrowUp: (far) => nudge(0, -1, far),
    ArrowDown: (far) => nudge(0, 1, far),
  };

  addEventListener("keydown", (event) => {
    if (!face || saving || event.target.tagName === "SELECT") return;
    if (event.target.tagName === "BUTTON" && event.key === "Enter") return;   // it is pressed
    if (event.repeat && !event.key.startsWith("Arrow")) return;   // a held key is one
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      undo();
    } else if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    } else if (event.key === "Tab" && document.activeElement === canvas) {
      const step = event.shiftKey ? points.length - 1 : 1;
      chosen = (chosen + step) % points.length;
      draw();
    } else if (KEYS[event.key]) {
      KEYS[event.key](event.shiftKey);
    } else {
      return;
    }
    event.preventDefault();
  });

  const buttons = { next: () => leave(place + 1), back: () => leave(place - 1), undo, save };
  for (const [id, act] of Object.entries(buttons)) {
    $(id).addEventListener("click", () => { canvas.focus(); act(); });
  }
  $("end").addEventListener("click", end);
  $("region").addEventListener("change", () => { fit(); canvas.focus(); });
  addEventListener("resize", fit);
  addEventListener("beforeunload", (event) => { if (changed()) event.preventDefault(); });

  ask("faces").then((found) => {
    list = found.faces;
    document.title = `kp-viz edit: ${found.output}`;
    const first = list.findIndex((one) => !one.saved);
    canvas.focus();
    return open(Math.max(0, first));
  }).catch((error) => say(String(error.message || error), true));

  // For tests: where a point, by its number or in pixels of the file, is on the page, in CSS pixels
  window.whereIs = (point) => {
    const rect = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    const [u, v] = toCanvas(Array.isArray(point) ? point : points[point]);
    return [rect.left + u / ratio, rect.top + v / ratio];
  };
})();
