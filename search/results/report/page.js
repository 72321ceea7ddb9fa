"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const narrow = window.matchMedia("(max-width: 40rem)").matches;
  const touch = window.matchMedia("(pointer: coarse)").matches;

  const colours = () => {
    const style = getComputedStyle(root);
    return { ink: style.getPropertyValue("--ink").trim(), line: style.getPropertyValue("--line").trim() };
  };

  // Colours of text and grid, for every axis that a layout has.
  const themed = (layout) => {
    const { ink, line } = colours(), changes = { "font.color": ink };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        changes[`${key}.gridcolor`] = line;
        changes[`${key}.zerolinecolor`] = line;
        changes[`${key}.linecolor`] = line;
      }
    }
    return changes;
  };

  const set = (theme) => {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(theme === "dark"));
    button.setAttribute("aria-label", `${button.textContent} theme`);
  };

  const draw = (script) => {
    const { data, layout } = JSON.parse(script.textContent);
    const place = document.getElementById(script.dataset.plot);
    const { ink, line } = colours();
    layout.xaxis ??= {};
    layout.yaxis ??= {};
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        Object.assign(layout[key], { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true });
      }
    }
    layout.font = { color: ink, size: narrow ? 11 : 12.5, family: "inherit" };
    layout.autosize = true;
    if (touch) layout.dragmode = false;
    if (narrow) {
      Object.assign(layout.margin, { l: 44, r: 6 });
      for (const trace of data) if (trace.type === "heatmap") trace.showscale = false;
    }
    return Plotly.newPlot(place, data, layout, { responsive: true, displayModeBar: false });
  };

  set(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  button.addEventListener("click", () => {
    set(root.dataset.theme === "dark" ? "light" : "dark");
    for (const plot of document.querySelectorAll(".plot")) Plotly.relayout(plot, themed(plot.layout));
  });

  for (const input of document.querySelectorAll("input[data-filter]")) {
    const rows = [...document.querySelectorAll(`#${input.dataset.filter} [data-row]`)];
    const count = input.closest("p").querySelector(".count");
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      if (wanted) for (const pair of document.querySelectorAll(`#${input.dataset.filter} .pair`)) pair.open = true;
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
      count.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
  }

  Promise.all([...document.querySelectorAll("script[data-plot]")].map(draw)).then(() => {
    root.dataset.drawn = "yes";
  });
})();
