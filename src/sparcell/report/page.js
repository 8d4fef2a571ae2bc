(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const all = (selector, within) => [...(within || document).querySelectorAll(selector)];
  let focus = null; // the one label shown alone, or null

  // ---- charts and maps: drawn when they come near the window ----
  const config = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false, doubleClick: "reset" };
  const maps = cellMaps(charts);
  const near = new Set();
  const rowOf = (div) => {
    const tab = div.closest("section").querySelector(".tabs [data-row][aria-selected=true]");
    return tab && tab.dataset.row;
  };
  const figureOf = (div) => {
    const found = charts[div.dataset.chart || div.dataset.map];
    return div.dataset.follows ? found && found[rowOf(div)] : found;
  };
  const geneOf = (div) => {
    const select = div.closest("section").querySelector("select[data-gene]");
    return select && select.value;
  };

  // Charts are made for a light page; on a dark one their text, grid and dark colors become light.
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  function inTheme(value) {
    if (Array.isArray(value)) return value.map(inTheme);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, inTheme(part)]));
    return typeof value === "string" && value.startsWith("#") ? maps.themed(value) : value;
  }
  function dressed(layout) {
    layout.font = Object.assign({}, layout.font, { color: color("ink") });
    layout.hoverlabel = { bgcolor: color("page"), bordercolor: color("line"), font: { color: color("ink"), size: 12 } };
    for (const axis of ["xaxis", "yaxis"]) if (layout[axis]) Object.assign(layout[axis], { gridcolor: color("line"), linecolor: color("faint") });
    for (const shape of layout.shapes || []) shape.line.color = color("ink");
    return layout;
  }
  const look = (div, figure) => { // colors of the figures' dots get an outline in the color of the page
    const data = inTheme(figure.data);
    for (const trace of data) if (trace.marker && trace.marker.line) trace.marker.line.color = color("page");
    return data;
  };

  function draw(div) {
    const figure = figureOf(div);
    if (!figure) return;
    if (div.dataset.map) { drawMap(div, figure); return; }
    const layout = dressed(JSON.parse(JSON.stringify(figure.layout)));
    if (figure.narrow && div.clientWidth < 560) {
      for (const axis of Object.keys(figure.narrow)) Object.assign(layout[axis], figure.narrow[axis]);
    }
    if (layout.height) div.style.height = layout.height + "px";
    Plotly.react(div, look(div, figure), layout, config).then(() => { div.dataset.drawn = rowOf(div) || "yes"; });
  }
  const shares = new Map(); // maps side by side move together
  function drawMap(div, figure) {
    const host = div.closest(".pair") || div;
    if (!shares.has(host)) shares.set(host, {});
    div.cellMap ||= maps.attach(div, shares.get(host));
    if (div.dataset.drawn && div.dataset.drawn !== (rowOf(div) || "yes")) shares.get(host).view = undefined; // another method, another map
    div.cellMap.set(figure, geneOf(div));
    if (figure.groups === "groups/labels") div.cellMap.focus(focus);
    div.dataset.drawn = rowOf(div) || "yes";
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting || near.has(entry.target)) continue;
      near.add(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "500px 0px" });
  const pictures = () => all(".chart, .map");
  pictures().forEach((div) => seen.observe(div));
  const redrawn = () => near.forEach((div) => draw(div));
  maps.night.addEventListener("change", () => { redrawn(); dye(); });
  all("select[data-gene]").forEach((select) => select.addEventListener("change", () => {
    all(".map", select.closest("section")).forEach((div) => { if (near.has(div)) draw(div); });
  }));

  // Dots of legends have the colors of the maps.
  function dye() {
    all("[data-color]").forEach((dot) => dot.style.setProperty("--c", maps.themed(dot.dataset.color)));
  }
  dye();

  // ---- paper: all charts are drawn, and each map of each row becomes an image ----
  addEventListener("beforeprint", () => {
    all(".chart").forEach((div) => { near.add(div); draw(div); });
    all(".prints").forEach((place) => {
      if (place.childElementCount) return;
      for (const tab of all(".tabs [data-row]", place.closest("section"))) for (const name of place.dataset.maps.split(" ")) {
        const chart = charts[name] && charts[name][tab.dataset.row];
        if (!chart) continue;
        const figure = document.createElement("figure"), caption = document.createElement("figcaption"), image = document.createElement("img");
        caption.textContent = tab.textContent; image.src = maps.picture(chart, geneOf(place)); image.alt = tab.textContent;
        figure.append(caption, image); place.append(figure);
      }
    });
  });

  // ---- tabs: a row chosen in one section is chosen in all that have it ----
  function choose(row) {
    for (const bar of all(".tabs")) {
      if (!bar.querySelector(`[data-row="${CSS.escape(row)}"]`)) continue;
      all("[data-row]", bar).forEach((tab) => tab.setAttribute("aria-selected", String(tab.dataset.row === row)));
      const section = bar.closest("section");
      all("[data-for-row]", section).forEach((part) => { part.hidden = part.dataset.forRow !== row; });
      all("[data-follows]", section).forEach((div) => { if (near.has(div)) draw(div); });
    }
  }
  all(".tabs [data-row]").forEach((tab) => tab.addEventListener("click", () => choose(tab.dataset.row)));
  all(".tabs [data-panel]").forEach((tab) => tab.addEventListener("click", () => {
    all("[data-panel]", tab.parentElement).forEach((other) => {
      other.setAttribute("aria-selected", String(other === tab));
      document.getElementById(other.dataset.panel).hidden = other !== tab;
    });
    all(".chart, .map", document.getElementById(tab.dataset.panel)).forEach((div) => { near.add(div); draw(div); });
    edges();
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
    all(".map").forEach((div) => {
      const figure = div.cellMap && figureOf(div);
      if (figure && figure.groups === "groups/labels") div.cellMap.focus(focus);
    });
  }));

  // ---- tables wider than the window: a fading edge and a line say that they scroll ----
  const edges = () => all(".scroll").forEach((box) => {
    box.toggleAttribute("data-wide", box.scrollWidth > box.clientWidth + 2);
    box.toggleAttribute("data-more", box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
  });
  all(".scroll").forEach((box) => {
    const hint = document.createElement("p");
    hint.className = "more"; hint.textContent = "Scroll sideways for more columns \u2192";
    box.after(hint); box.tabIndex = 0; box.setAttribute("role", "group"); box.setAttribute("aria-label", "Table, scrolls sideways");
    box.addEventListener("scroll", edges, { passive: true });
  });
  addEventListener("resize", edges);
  all("details").forEach((part) => part.addEventListener("toggle", edges));
  edges();

  // ---- tables as CSV: the full numbers where a cell holds them, else its text ----
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const cellText = (cell) => {
    const value = cell.dataset.csv ?? cell.dataset.value;
    return quoted((value === undefined ? cell.textContent : value === "-Infinity" ? "" : value).replace(/\s+/g, " ").trim());
  };
  all("button.csv").forEach((button) => button.addEventListener("click", () => {
    const table = document.getElementById(button.dataset.table);
    const lines = all("tr", table).filter((line) => !line.classList.contains("group")).map((line) => [...line.children].map(cellText).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
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
