// The page alive: plots in the colours of the theme, tables that sort and filter, the theme itself.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const data = (element) => JSON.parse(element.querySelector(':scope > script[type="application/json"]').textContent);

  // Tables. The rows that stand in the page are the first of those in the JSON.
  const number = (text) => (text === "" ? NaN : Number(text.replaceAll(",", "")));
  function order(numeric, column, down) {
    const sign = down ? -1 : 1;
    return (a, b) => {
      if (a[column] === "" || b[column] === "") return (a[column] === "") - (b[column] === "");
      if (numeric) return sign * (number(a[column]) - number(b[column]));
      return sign * a[column].localeCompare(b[column], undefined, { numeric: true });
    };
  }
  for (const table of document.querySelectorAll(".table")) {
    if (!table.querySelector("script")) continue;
    const { rows, numeric, shown } = data(table);
    const body = table.querySelector("tbody"), filter = table.querySelector(".filter");
    const more = table.querySelector(".more"), count = table.querySelector(".count");
    const heads = [...table.querySelectorAll("th")];
    const lower = rows.map((row) => row.join("\n").toLowerCase());
    let most = shown, column = -1, down = false;
    function show() {
      const words = filter ? filter.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
      let found = rows;
      if (words.length) found = rows.filter((_, i) => words.every((word) => lower[i].includes(word)));
      if (column >= 0) found = [...found].sort(order(numeric[column], column, down));
      body.replaceChildren(...found.slice(0, most).map((row) => {
        const line = document.createElement("tr");
        row.forEach((text, i) => {
          const cell = line.insertCell();
          cell.textContent = text;
          if (numeric[i]) cell.className = "number";
        });
        return line;
      }));
      if (count) count.textContent = found.length === rows.length
        ? `${rows.length.toLocaleString("en")} rows`
        : `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
      if (more) more.hidden = found.length <= most;
    }
    heads.forEach((head, i) => head.querySelector(".sort")?.addEventListener("click", () => {
      down = column === i ? !down : numeric[i];  // numbers: the largest first
      column = i;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      show();
    }));
    filter?.addEventListener("input", () => { most = shown; show(); });
    more?.addEventListener("click", () => { most += 10 * shown; show(); });
  }

  // Plots. A trace says by number which colour of the series it has; the rest is the theme's.
  const plots = [...document.querySelectorAll(".drawn")].map((place) => ({
    place, figure: data(place.closest(".plot")), drawn: false,
  }));
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const faint = (colour, alpha) => colour + Math.round(alpha * 255).toString(16).padStart(2, "0");
  function coloured(trace, colours) {
    const { series, band, quiet } = trace.meta ?? {};
    const found = { ...trace };
    if (trace.type === "heatmap") {
      found.colorscale = [[0, style("--sunk")], [1, colours[0]]];
    }
    if (series === undefined && !quiet) return found;
    const colour = quiet ? style("--quiet") : colours[series % colours.length];
    found.line = { ...trace.line, color: band ? "rgba(0,0,0,0)" : colour };
    found.marker = { ...trace.marker, color: colour };
    if (band) found.fillcolor = faint(colour, 0.16);
    return found;
  }
  const axis = (own, ink) => ({
    gridcolor: ink.line, zerolinecolor: ink.line, linecolor: ink.line, tickcolor: ink.line,
    automargin: true, ...own,
    title: { standoff: 10, ...own?.title },
  });
  function draw(plot) {
    const ink = { text: style("--ink"), quiet: style("--quiet"), line: style("--line"), surface: style("--surface") };
    const colours = style("--series").split(" ");
    const { data: traces, layout: own } = plot.figure;
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: 'system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif', size: 12, color: ink.quiet },
      margin: { l: 60, r: 20, t: 20, b: 50 }, height: Number(plot.place.dataset.height),
      hoverlabel: { bgcolor: ink.surface, bordercolor: ink.line, font: { color: ink.text }, align: "left" },
      hovermode: "closest", dragmode: "zoom", colorway: colours, bargap: 0.25, ...own,
    };
    layout.legend = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: ink.text }, ...own.legend };
    for (const name of ["xaxis", "yaxis", "xaxis2", "yaxis2"]) {
      if (name === "xaxis" || name === "yaxis" || own[name]) layout[name] = axis(own[name], ink);
    }
    Plotly.react(plot.place, traces.map((one) => coloured(one, colours)), layout, { displayModeBar: false, responsive: true });
    if (!plot.drawn) point(plot);
    plot.drawn = true;
    plot.place.dataset.drawn = "yes";
  }
  function point({ place, figure }) {
    const beside = place.parentElement.querySelector(".pointed");
    if (!beside) return;
    place.on("plotly_hover", ({ points: [{ customdata }] }) => {
      const line = document.createElement("p"), source = figure.pictures[customdata];
      line.textContent = customdata ?? "";
      beside.replaceChildren(line);
      if (!source) return;
      const picture = new Image();
      picture.alt = "";
      picture.src = source;
      beside.prepend(picture);
    });
  }
  const redraw = () => { for (const plot of plots) if (plot.drawn) draw(plot); };
  if (plots.length) {
    const near = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        draw(plots.find((plot) => plot.place === target));
      }
    }, { rootMargin: "600px" });
    for (const { place } of plots) near.observe(place);
    let theme;
    addEventListener("beforeprint", () => {  // on paper: every plot, light, as wide as a page
      theme = root.dataset.theme;
      root.dataset.theme = "light";
      for (const plot of plots) {
        draw(plot);
        Plotly.relayout(plot.place, { width: Math.min(640, plot.place.clientWidth) });
      }
    });
    addEventListener("afterprint", () => {
      if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
      redraw();
    });
  }

  // The theme: the system's, until the button says otherwise.
  const button = document.getElementById("theme");
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const kept = { get: () => { try { return sessionStorage.getItem("theme"); } catch { return null; } },
    set: (name) => { try { sessionStorage.setItem("theme", name); } catch { /* private */ } } };
  function named() { button.textContent = now() === "dark" ? "Light" : "Dark"; }
  if (kept.get()) root.dataset.theme = kept.get();
  button.hidden = false;
  named();
  button.addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    kept.set(root.dataset.theme);
    named();
    redraw();
  });
  dark.addEventListener("change", () => { named(); redraw(); });

  // A page of a run that goes on.
  const seconds = Number(document.body.dataset.reload);
  if (seconds) setInterval(() => { if (document.getElementById("reload").checked) location.reload(); }, 1000 * seconds);
})();
