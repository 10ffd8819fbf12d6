/* The console's own script: charts, keys, and a login by link. */
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const config = { displaylogo: false, displayModeBar: false, responsive: true };

  function draw(root) {
    if (!window.Plotly) return;
    for (const plot of root.querySelectorAll(".plot")) {
      const source = plot.querySelector(":scope > template");
      if (!source) continue;
      const figure = JSON.parse(source.content.textContent);
      source.remove();
      figure.layout.autosize = true;
      if (plot.clientWidth < 520) {
        figure.layout.margin = { ...figure.layout.margin, l: 52, r: 8 };
        figure.layout.yaxis = { ...figure.layout.yaxis, title: { text: "" } };
        figure.layout.xaxis = { ...figure.layout.xaxis, nticks: 5 };
      }
      window.Plotly.newPlot(plot, figure.data, figure.layout, config);
    }
  }

  function loginByLink() {
    const form = document.getElementById("login");
    if (!form || location.hash.length < 2) return;
    form.elements.token.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
    form.requestSubmit();
  }

  const places = { t: "/", u: "/universe", r: "/runs", m: "/models", b: "/backtests", d: "/data" };
  let going = false;

  function move(by) {
    const rows = [...document.querySelectorAll("table[data-rows] tbody tr")];
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.classList.contains("at"));
    const next = Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by));
    rows[at]?.classList.remove("at");
    rows[next].classList.add("at");
    const link = rows[next].querySelector("a");
    link?.focus({ preventScroll: true });
    rows[next].scrollIntoView({ block: "nearest" });
  }

  function turn(by) {
    const dates = document.querySelector("form[data-submits] select[name=as_of]");
    const there = dates?.options[dates.selectedIndex + by];
    if (!there) return;
    there.selected = true;
    dates.form.requestSubmit();
  }

  function key(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (going && places[event.key]) location.assign(places[event.key]);
    going = event.key === "g";
    if (event.key === "/") {
      const search = document.getElementById("search") || document.getElementById("jump");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    }
    if (event.key === "[") turn(1);
    if (event.key === "]") turn(-1);
    if (event.key === "j") move(1);
    if (event.key === "k") move(-1);
    if (event.key === "n") document.querySelector("a[rel=next]")?.click();
    if (event.key === "p") document.querySelector("a[rel=prev]")?.click();
  }

  document.addEventListener("DOMContentLoaded", () => {
    draw(document);
    loginByLink();
    document.addEventListener("keydown", key);
    document.addEventListener("change", (event) => {
      event.target.closest("form[data-submits]")?.requestSubmit();
    });
    document.body.addEventListener("htmx:afterSwap", (event) => draw(event.target));
    document.body.addEventListener("htmx:beforeSwap", (event) => {
      const status = event.detail.xhr.status;
      if (status >= 400 && status !== 401) {
        event.detail.shouldSwap = true;
        event.detail.isError = false;
      }
    });
  });
})();
