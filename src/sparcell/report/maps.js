// Maps of cells on a canvas: 2-D and 3-D, colored by group, by value, or by gene. The page's script calls cellMaps once.
const cellMaps = (store) => {
  "use strict";
  const root = document.documentElement;
  const night = matchMedia("(prefers-color-scheme: dark)");
  let printing = false; // paper is always light
  const LIGHT = { page: "#ffffff", ink: "#1d2733", grey: "#d5dae0", low: "#a9cbe0", middle: "#2a6f9b", high: "#0b3250", soft: "#56616c" };
  const isDark = () => night.matches && !printing;
  const theme = (name) => (printing ? LIGHT[name] : getComputedStyle(root).getPropertyValue(`--map-${name}`).trim() || LIGHT[name]);

  // ---- colors ----
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const hex = (rgb) => "#" + rgb.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("");
  const mix = (a, b, share) => hex(parts(a).map((part, i) => part + (parts(b)[i] - part) * share));
  const luminance = (color) => {
    const [r, g, b] = parts(color).map((part) => part / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  /** The color as it is on white paper; on a dark page dark colors become lighter. */
  function themed(color) {
    if (!isDark() || !/^#[0-9a-f]{6}$/i.test(color)) return color;
    let shown = color;
    for (let share = 0.15; luminance(shown) < 0.17 && share < 0.9; share += 0.1) shown = mix(color, "#ffffff", share);
    return shown;
  }
  const ramp = (share) => (share < 0.5 ? mix(theme("low"), theme("middle"), 2 * share) : mix(theme("middle"), theme("high"), 2 * share - 1));

  // ---- data ----
  const find = (value) => {
    if (typeof value !== "string") return value;
    const cut = value.indexOf("/");
    return store[value.slice(0, cut)][value.slice(cut + 1)];
  };
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const orders = new Map();
  function order(n) { // a fixed mixed order, so that no group covers the others
    if (!orders.has(n)) {
      let step = Math.max(1, Math.round(n * 0.618));
      const common = (a, b) => (b ? common(b, a % b) : a);
      while (common(step, n || 1) !== 1) step += 1;
      orders.set(n, Array.from({ length: n }, (_, i) => (i * step) % n));
    }
    return orders.get(n);
  }

  /** What a map shows: positions, colors and names of the cells, prepared once for each chart. */
  function prepare(chart, gene) {
    const space = !!chart.xyz, axes = find(chart.xyz || chart.xy), n = axes[0].length;
    const groups = find(chart.groups), scene = { space, axes, n, groups, chart, off: null, share: null, top: 0, title: "" };
    if (chart.values) {
      scene.share = new Float32Array(n); scene.top = chart.values.top; scene.title = chart.values.title;
      chart.values.at.forEach((i, k) => { scene.share[i] = Math.min(1, chart.values.of[k] / (scene.top || 1)); });
    } else if (chart.gene) {
      const place = Math.max(0, store.genes.names.indexOf(gene));
      scene.share = Float32Array.from(bytes(store.genes.levels[place] || ""), (level) => level / 255);
      scene.top = store.genes.highest[place]; scene.title = `${store.genes.names[place]}, ${store.genes.unit}`;
    }
    const extra = [chart.dots && chart.dots.xy, chart.path && chart.path.xy].filter(Boolean);
    const all = [axes, ...extra];
    scene.low = axes.map((_, d) => Infinity); scene.high = axes.map((_, d) => -Infinity);
    for (const some of all) some.forEach((axis, d) => axis.forEach((v) => {
      if (v === null) return;
      if (v < scene.low[d]) scene.low[d] = v;
      if (v > scene.high[d]) scene.high[d] = v;
    }));
    scene.middle = scene.low.map((low, d) => (low + scene.high[d]) / 2);
    scene.half = Math.max(...scene.low.map((low, d) => (scene.high[d] - low) / 2), 1e-6) * 1.06;
    if (space) { // the radius of the cells around the middle, so that the map fills its frame however it is turned
      scene.half = 1e-6;
      for (let i = 0; i < n; i += 1) scene.half = Math.max(scene.half, Math.hypot(...axes.map((axis, d) => (axis[i] === null ? 0 : axis[i] - scene.middle[d]))));
    }
    scene.order = order(n);
    if (scene.share) scene.order = [...scene.order].sort((a, b) => scene.share[a] - scene.share[b]);
    return scene;
  }

  // ---- projection ----
  const start = (space) => (space ? { turn: 0.75, tilt: 0.35, zoom: 1 } : { x: 0, y: 0, zoom: 1 });
  function projector(scene, view, width, height) {
    const scale = Math.min(width, height) / 2;
    if (!scene.space) return (x, y) => [
      width / 2 + ((x - scene.middle[0]) / scene.half - view.x) * view.zoom * scale,
      height / 2 - ((y - scene.middle[1]) / scene.half - view.y) * view.zoom * scale, 1];
    const [c, s, ct, st] = [Math.cos(view.turn), Math.sin(view.turn), Math.cos(view.tilt), Math.sin(view.tilt)];
    return (x, y, z) => {
      const [a, b, d] = [x, y, z].map((v, i) => (v - scene.middle[i]) / scene.half);
      const right = a * c + b * s, deep = b * c - a * s, up = d * ct - deep * st, near = -(deep * ct + d * st);
      const size = 1 / (1 - 0.22 * near); // nearer cells are a little larger
      return [width / 2 + right * size * view.zoom * scale * 0.85, height / 2 - up * size * view.zoom * scale * 0.85, size, near];
    };
  }

  // ---- drawing ----
  function paint(pen, scene, view, width, height, focus) {
    const to = projector(scene, view, width, height), { axes, n, groups, chart } = scene;
    pen.clearRect(0, 0, width, height);
    const radius = Math.min(4.5, Math.max(1.2, 88 / Math.sqrt(Math.max(n, 1)))) * Math.min(1, Math.max(0.55, width / 430)) * Math.sqrt(view.zoom);
    const colors = groups ? groups.colors.map(themed) : [];
    let list = scene.order, places = null;
    if (scene.space) {
      places = list.map((i) => [i, ...to(axes[0][i], axes[1][i], axes[2][i])]).sort((a, b) => a[4] - b[4]);
      list = places.map((place) => place[0]);
    }
    const grey = theme("grey");
    const levels = scene.share ? Array.from({ length: 33 }, (_, k) => ramp(k / 32)) : null;
    for (let k = 0; k < list.length; k += 1) {
      const i = list[k];
      if (axes[0][i] === null || axes[1][i] === null) continue;
      const [x, y, size] = places ? places[k].slice(1, 4) : to(axes[0][i], axes[1][i]);
      let color = grey, alpha = 0.85;
      if (groups) { color = colors[groups.codes[i]]; if (focus !== null && focus !== groups.codes[i]) alpha = 0.06; }
      else if (scene.share && scene.share[i] > 0.02) color = levels[Math.round(32 * scene.share[i])];
      pen.globalAlpha = alpha; pen.fillStyle = color;
      pen.beginPath(); pen.arc(x, y, radius * size, 0, 6.2832); pen.fill();
    }
    pen.globalAlpha = 1;
    if (chart.dots) dots(pen, chart.dots, to);
    if (chart.path) path(pen, chart.path, to);
    for (const [x, y, text] of chart.marks || []) { const [px, py] = to(x, y); cross(pen, px, py); write(pen, text, px + 13, py - 8, 11); }
    for (const name of chart.names || []) { const place = to(...name.slice(0, -1)); write(pen, name[name.length - 1], place[0], place[1], 12); }
    if (scene.share) bar(pen, scene, width, height);
    if (scene.space) axes3(pen, scene, view, height);
  }
  function write(pen, text, x, y, size, align = "center", bold = true) {
    pen.font = `${bold ? "600 " : ""}${size}px -apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif`;
    pen.textAlign = align; pen.textBaseline = "middle"; pen.lineJoin = "round";
    const half = pen.measureText(text).width / 2 + 4, wide = pen.canvas.width / pen.getTransform().a;
    if (align === "center" && x > -half && x < wide + half) x = Math.max(half, Math.min(wide - half, x)); // a name at the edge stays whole
    pen.strokeStyle = theme("page"); pen.lineWidth = 4; pen.globalAlpha = 0.85; pen.strokeText(text, x, y);
    pen.globalAlpha = 1; pen.fillStyle = theme("ink"); pen.fillText(text, x, y);
  }
  function cross(pen, x, y) {
    for (const [color, wide] of [[theme("page"), 5], [theme("ink"), 2.2]]) {
      pen.strokeStyle = color; pen.lineWidth = wide; pen.lineCap = "round"; pen.beginPath();
      pen.moveTo(x - 4, y - 4); pen.lineTo(x + 4, y + 4); pen.moveTo(x - 4, y + 4); pen.lineTo(x + 4, y - 4); pen.stroke();
    }
  }
  function dots(pen, layer, to) {
    pen.fillStyle = themed(layer.color); pen.globalAlpha = 0.75;
    layer.xy[0].forEach((x, i) => { const [px, py] = to(x, layer.xy[1][i]); pen.beginPath(); pen.arc(px, py, 2.4, 0, 6.2832); pen.fill(); });
    pen.globalAlpha = 1;
  }
  function path(pen, layer, to) {
    const places = layer.xy[0].map((x, i) => to(x, layer.xy[1][i]));
    for (const [color, wide] of [[theme("page"), 5], [themed(layer.color), 2]]) {
      pen.strokeStyle = color; pen.lineWidth = wide; pen.lineJoin = "round"; pen.setLineDash(wide === 2 ? [5, 3] : []);
      pen.beginPath(); places.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y))); pen.stroke();
    }
    pen.setLineDash([]); pen.fillStyle = themed(layer.color);
    places.forEach(([x, y]) => { pen.beginPath(); pen.arc(x, y, 3, 0, 6.2832); pen.fill(); });
    const last = places.length - 1, away = places[0][1] < places[last][1] ? -1 : 1;
    write(pen, `from ${layer.from}`, places[0][0], places[0][1] + 15 * away, 11.5);
    write(pen, `to ${layer.to}`, places[last][0], places[last][1] - 15 * away, 11.5);
  }
  function bar(pen, scene, width, height) {
    const wide = 110, x = width - wide - 12, y = height - 27;
    for (let k = 0; k < wide; k += 1) { pen.fillStyle = ramp(k / wide); pen.fillRect(x + k, y, 1.5, 8); }
    write(pen, scene.title, width - 12, y - 10, 11.5, "right", false);
    write(pen, "0", x, y + 17, 11, "left", false);
    write(pen, String(Number(scene.top.toPrecision(2))), width - 12, y + 17, 11, "right", false);
  }
  function axes3(pen, scene, view, height) { // three short axes in the corner show how the map is turned
    const flat = { ...scene, middle: [0, 0, 0], half: 1 }, to = projector(flat, { ...view, zoom: 1 }, 120, 120), [x0, y0] = to(0, 0, 0);
    for (let d = 0; d < 3; d += 1) {
      const [x, y] = to(...[0, 1, 2].map((i) => (i === d ? 0.75 : 0))), dx = 0, dy = height - 135;
      pen.strokeStyle = theme("soft"); pen.lineWidth = 1.4;
      pen.beginPath(); pen.moveTo(x0 + dx, y0 + dy); pen.lineTo(x + dx, y + dy); pen.stroke();
      write(pen, `t-SNE ${d + 1}`, x0 + (x - x0) * 1.35 + dx, y0 + (y - y0) * 1.35 + dy, 11, "center", false);
    }
  }

  // ---- one map in the page ----
  /** A map in `div`; `share` is an object that maps which move together have in common. */
  function attach(div, share) {
    const canvas = document.createElement("canvas"), tip = document.createElement("div"), buttons = document.createElement("div");
    const state = { scene: null, focus: null };
    canvas.tabIndex = 0; canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", `${div.dataset.label}. Arrow keys move the map, + and - zoom, 0 resets.`);
    tip.className = "tip"; tip.hidden = true; buttons.className = "zoom";
    for (const [text, title, act] of [["+", "Zoom in", () => zoom(1.4)], ["−", "Zoom out", () => zoom(1 / 1.4)], ["⟲", "Reset", reset]]) {
      const button = document.createElement("button");
      button.textContent = text; button.title = title; button.setAttribute("aria-label", title); button.type = "button";
      button.addEventListener("click", act); buttons.append(button);
    }
    div.append(canvas, buttons, tip);
    (share.maps ||= []).push(api());
    const view = () => (share.view ||= start(state.scene.space));
    const together = () => share.maps.forEach((map) => map.redraw());
    function zoom(by) { view().zoom = Math.min(20, Math.max(0.6, view().zoom * by)); touchable(); together(); }
    function reset() { share.view = start(state.scene.space); touchable(); together(); }
    function touchable() { canvas.style.touchAction = !state.scene.space && view().zoom <= 1 ? "auto" : state.scene.space ? "pan-y" : "none"; }
    function move(dx, dy) {
      const scale = Math.min(div.clientWidth, div.clientHeight) / 2, now = view();
      if (state.scene.space) { now.turn -= dx / scale; now.tilt = Math.max(-1.5, Math.min(1.5, now.tilt + dy / scale)); }
      else { now.x -= dx / scale / now.zoom; now.y += dy / scale / now.zoom; }
      together();
    }
    function redraw() {
      if (!state.scene || !div.clientWidth) return;
      const ratio = Math.max(1, devicePixelRatio || 1), { clientWidth: width, clientHeight: height } = div;
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
      }
      const pen = canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      paint(pen, state.scene, view(), width, height, state.focus);
    }
    function api() {
      return { redraw: () => redraw(), get scene() { return state.scene; }, get view() { return view(); },
        set(chart, gene) {
          const space = !!chart.xyz, same = state.scene && state.scene.space === space;
          if (!same) share.view = undefined;
          state.scene = prepare(chart, gene); touchable(); redraw();
          div.dataset.cells = String(state.scene.n);
        },
        focus(group) { state.focus = group; redraw(); } };
    }
    function nearest(event) {
      const area = canvas.getBoundingClientRect(), at = [event.clientX - area.left, event.clientY - area.top];
      const scene = state.scene, to = projector(scene, view(), div.clientWidth, div.clientHeight);
      let best = 81, text = "";
      for (let i = 0; i < scene.n; i += 1) {
        if (scene.axes[0][i] === null) continue;
        const [x, y] = to(...scene.axes.map((axis) => axis[i])), far = (x - at[0]) ** 2 + (y - at[1]) ** 2;
        if (far >= best) continue;
        best = far;
        text = scene.groups ? scene.groups.names[scene.groups.codes[i]] : scene.share ? String(Number((scene.share[i] * scene.top).toPrecision(2))) : "";
      }
      tip.hidden = !text; tip.textContent = text;
      tip.style.left = `${Math.min(at[0] + 12, div.clientWidth - 120)}px`; tip.style.top = `${Math.max(0, at[1] - 30)}px`;
    }
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" && !state.scene.space && view().zoom <= 1) return; // a finger scrolls the page
      last = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); canvas.classList.add("held");
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) { nearest(event); return; }
      tip.hidden = true;
      move(event.clientX - last[0], event.clientY - last[1]);
      last = [event.clientX, event.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; canvas.classList.remove("held"); });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("dblclick", reset);
    canvas.addEventListener("wheel", (event) => { // a plain wheel scrolls the page; with Ctrl, or two fingers on a touchpad, the map zooms
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault(); zoom(Math.exp(-event.deltaY / 200));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (step) move(...step); else if (event.key === "+" || event.key === "=") zoom(1.4); else if (event.key === "-") zoom(1 / 1.4); else if (event.key === "0") reset(); else return;
      event.preventDefault();
    });
    new ResizeObserver(redraw).observe(div);
    return share.maps[share.maps.length - 1];
  }

  /** An image of a map for paper. */
  function picture(chart, gene, size = 620) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size * 2;
    const pen = canvas.getContext("2d"), scene = prepare(chart, gene);
    pen.setTransform(2, 0, 0, 2, 0, 0);
    printing = true;
    paint(pen, scene, start(scene.space), size, size, null);
    printing = false;
    return canvas.toDataURL("image/png");
  }
  return { attach, picture, themed, night };
};
