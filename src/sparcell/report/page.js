(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const all = (selector, within) => [...(within || document).querySelectorAll(selector)];
  const touch = matchMedia("(pointer: coarse)").matches;
  const probe = document.createElement("canvas");
  const webgl = !!(probe.getContext("webgl2") || probe.getContext("webgl"));
  let focus = null; // the one label shown alone, or null

  // ---- charts: drawn when they come near the window, since a browser keeps few WebGL contexts ----
  const config = { responsive: true, displaylogo: false, scrollZoom: false, doubleClick: "reset",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "hoverClosestCartesian", "hoverCompareCartesian", "toggleSpikelines"] };
  const near = new Set();
  const rowOf = (div) => {
    const tab = div.closest("section").querySelector(".tabs [data-row][aria-selected=true]");
    return tab && tab.dataset.row;
  };
  const figureOf = (div) => {
    const found = charts[div.dataset.chart];
    const figure = div.dataset.follows ? found && found[rowOf(div)] : found;
    // what lies below many figures is kept once
    return figure && figure.under ? { ...figure, data: [...charts[figure.under].data, ...figure.data] } : figure;
  };
  const dims = (figure) => figure.data.map((_, i) => (focus === null || i === focus ? 1 : 0.06));

  function draw(div) {
    const figure = figureOf(div);
    if (!figure) return;
    const flat = figure.data.some((trace) => trace.type === "scatter3d");
    if (flat && !webgl) {
      div.innerHTML = '<p class="sorry">This browser offers no WebGL, which the 3-D map needs.</p>';
      return;
    }
    const coloredByLabel = div.dataset.chart === "labels" || div.dataset.chart === "space";
    const opacity = coloredByLabel ? dims(figure) : null;
    const data = figure.data.map((trace, i) => Object.assign({}, trace,
      opacity ? { opacity: opacity[i] } : {},
      !webgl && trace.type === "scattergl" ? { type: "scatter" } : {}));
    const layout = JSON.parse(JSON.stringify(figure.layout));
    if (touch && layout.dragmode === "pan") layout.dragmode = false; // a finger on a map scrolls the page
    if (figure.narrow && div.clientWidth < 560) {
      for (const axis of Object.keys(figure.narrow)) Object.assign(layout[axis], figure.narrow[axis]);
    }
    if (layout.height) div.style.height = layout.height + "px";
    const maps = layout.xaxis && layout.xaxis.visible === false;
    const bar = layout.dragmode === false || (layout.scene && touch) ? false : maps || layout.scene ? "hover" : false;
    Plotly.react(div, data, layout, Object.assign({}, config, { displayModeBar: bar, scrollZoom: !!layout.scene }))
      .then(() => { div.dataset.drawn = rowOf(div) || "yes"; link(div); });
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting || near.has(entry.target)) continue;
      near.add(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "500px 0px" });
  all(".chart").forEach((div) => seen.observe(div));
  addEventListener("beforeprint", () => all(".chart").forEach((div) => { near.add(div); draw(div); }));

  // Two maps side by side move together.
  function link(div) {
    const pair = div.closest("figure") && div.closest(".pair");
    if (!pair || div.dataset.linked) return;
    div.dataset.linked = "yes";
    div.on("plotly_relayout", (change) => {
      const keys = Object.keys(change).filter((key) => /^[xy]axis\.(range|autorange)/.test(key));
      if (!keys.length || div.dataset.led) return;
      for (const other of all(".chart", pair)) {
        if (other === div || !other.dataset.drawn) continue;
        other.dataset.led = "yes";
        const update = Object.fromEntries(keys.map((key) => [key, change[key]]));
        Plotly.relayout(other, update).then(() => { delete other.dataset.led; });
      }
    });
  }

  // ---- tabs: a row chosen in one section is chosen in all that have it ----
  function choose(row) {
    for (const bar of all(".tabs")) {
      if (!bar.querySelector(`[data-row="${CSS.escape(row)}"]`)) continue;
      all("[data-row]", bar).forEach((tab) => tab.setAttribute("aria-selected", String(tab.dataset.row === row)));
      const section = bar.closest("section");
      all("[data-for-row]", section).forEach((part) => { part.hidden = part.dataset.forRow !== row; });
      all(".chart[data-follows]", section).forEach((div) => { if (near.has(div)) draw(div); });
    }
  }
  all(".tabs [data-row]").forEach((tab) => tab.addEventListener("click", () => choose(tab.dataset.row)));
  all(".tabs [data-panel]").forEach((tab) => tab.addEventListener("click", () => {
    all("[data-panel]", tab.parentElement).forEach((other) => {
      other.setAttribute("aria-selected", String(other === tab));
      document.getElementById(other.dataset.panel).hidden = other !== tab;
    });
    all(".chart", document.getElementById(tab.dataset.panel)).forEach((div) => { near.add(div); draw(div); });
  }));
  all(".tabs").forEach((bar) => bar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = all("[role=tab]", bar);
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }));

  // ---- tables that lead to a row, and can be searched ----
  all("[data-choose]").forEach((button) => button.addEventListener("click", () => {
    choose(button.dataset.choose);
    document.getElementById(button.dataset.goto).scrollIntoView();
  }));
  all("input[data-filter]").forEach((box) => {
    const lines = all(`#${box.dataset.filter} tr.line`);
    const told = document.querySelector(`[data-count="${box.dataset.filter}"]`);
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const line of lines) {
        const text = line.textContent.toLowerCase();
        line.hidden = !words.every((word) => text.includes(word));
      }
      const left = lines.filter((line) => !line.hidden).length;
      told.textContent = words.length ? `${left} of ${lines.length}` : "";
    });
  });

  // ---- legend: one label alone ----
  all(".legend button").forEach((button) => button.addEventListener("click", () => {
    const type = Number(button.dataset.type);
    focus = focus === type ? null : type;
    all(".legend button").forEach((other) => other.setAttribute("aria-pressed", String(Number(other.dataset.type) === focus)));
    all('.chart[data-chart="labels"], .chart[data-chart="space"]').forEach((div) => {
      if (div.dataset.drawn && div.data) Plotly.restyle(div, { opacity: dims(div) });
    });
  }));

  // ---- tables: highest first, lowest first, as they were ----
  for (const table of all("table.sortable")) {
    const bodies = all("tbody", table);
    const before = bodies.map((body) => [...body.children]);
    all("thead th", table).forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const now = { descending: "ascending", ascending: "none" }[head.getAttribute("aria-sort")] || "descending";
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      bodies.forEach((body, i) => body.replaceChildren(...before[i]));
      table.classList.toggle("sorted", now !== "none");
      if (now === "none") return;
      head.setAttribute("aria-sort", now);
      const lines = all("tr.line", table);
      const value = (line) => line.children[column].dataset.value;
      const number = lines.every((line) => value(line) !== "" && !Number.isNaN(Number(value(line))));
      lines.sort((a, b) => (number ? Number(value(b)) - Number(value(a)) : value(a).localeCompare(value(b))));
      if (now === "ascending") lines.reverse();
      bodies.forEach((body) => body.replaceChildren());
      bodies[0].replaceChildren(...lines);
    }));
  }

  // ---- contents: mark where the reader is ----
  const links = new Map(all(".toc a[href^='#']").map((a) => [a.getAttribute("href").slice(1), a]));
  const sections = all("main > section");
  function mark() {
    const line = innerHeight * 0.3;
    let here = null;
    for (const section of sections) if (section.getBoundingClientRect().top < line) here = section;
    if (innerHeight + scrollY >= document.documentElement.scrollHeight - 4) here = sections[sections.length - 1];
    links.forEach((a) => a.classList.remove("here"));
    const a = here && links.get(here.id);
    if (a) a.classList.add("here");
    const bar = document.querySelector(".toc");
    if (!a) { bar.scrollLeft = 0; return; }
    if (bar.scrollWidth > bar.clientWidth) bar.scrollLeft = a.offsetLeft - bar.clientWidth / 2 + a.offsetWidth / 2;
  }
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();
})();
