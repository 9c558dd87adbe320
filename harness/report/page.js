// Sorting and filtering of the table, kept in the address after #view?; a served page also follows its run. All is there without it.
(() => {
  const form = document.querySelector("form.tools");
  const table = document.querySelector("table.heat");
  if (!form || !table) return;
  const groups = [...table.tBodies].filter((body) => !("fixed" in body.dataset)).map((body) => ({ body, rows: [...body.rows].filter((row) => row.dataset.id) }));
  const state = { q: "", group: "", status: "", sort: "", down: false };
  const every = document.getElementById("all-metrics");
  const output = form.querySelector("output");

  const matches = (row) =>
    (!state.q || row.dataset.id.includes(state.q.toLowerCase())) &&
    (!state.group || row.dataset.group === state.group) &&
    (!state.status || row.dataset.status.split(" ").includes(state.status));

  const value = (row, column) => {
    const found = parseFloat(row.cells[column].dataset.value);
    return Number.isNaN(found) ? null : found;
  };

  function order(rows) {
    const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.dataset.metric === state.sort);
    if (column < 0) return rows;
    // What was not scored comes last, whichever way the column is sorted.
    return [...rows].sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === null || y === null) return (x === null) - (y === null);
      return state.down ? y - x : x - y;
    });
  }

  function show() {
    // A row without a change is shown on demand, or when it is asked for.
    const asked = Boolean(state.q || state.group || state.status);
    let count = 0;
    let all = 0;
    for (const { body, rows } of groups) {
      const kept = rows.filter(matches);
      for (const row of rows) {
        row.hidden = !kept.includes(row);
        if ("quiet" in row.dataset) row.classList.toggle("quiet", !asked);
      }
      for (const row of order(rows)) body.append(row);
      count += kept.length;
      all += rows.length;
    }
    for (const cell of table.tHead.rows[0].cells) {
      if (!cell.dataset.metric) continue;
      const sorted = cell.dataset.metric === state.sort;
      if (sorted) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    output.textContent = count === all ? `${all} formats` : `${count} of ${all} formats`;
  }

  function remember() {
    const params = new URLSearchParams();
    for (const name of ["q", "group", "status"]) if (state[name]) params.set(name, state[name]);
    if (every && every.checked) params.set("metrics", "all");
    if (state.sort) params.set("sort", state.sort + (state.down ? ".down" : ""));
    history.replaceState(null, "", params.size ? `#view?${params}` : "#formats");
    show();
  }

  function read() {
    const [place, query] = location.hash.slice(1).split("?");
    if (place !== "view") {
      const opened = place && document.getElementById(decodeURIComponent(place));
      const details = opened && opened.closest("details");
      if (details) {
        details.open = true;
        opened.scrollIntoView();
      }
      return;
    }
    const params = new URLSearchParams(query || "");
    const [sort, way] = (params.get("sort") || "").split(".");
    Object.assign(state, { q: params.get("q") || "", group: params.get("group") || "", status: params.get("status") || "", sort, down: way === "down" });
    for (const name of ["q", "group", "status"]) form.elements[name].value = state[name];
    if (every) every.checked = params.get("metrics") === "all";
    show();
  }

  form.addEventListener("input", () => {
    for (const name of ["q", "group", "status"]) state[name] = form.elements[name].value;
    remember();
  });
  if (every) every.addEventListener("change", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    Object.assign(state, { q: "", group: "", status: "", sort: "", down: false });
    setTimeout(remember);
  });
  for (const cell of table.tHead.rows[0].cells) {
    if (!cell.dataset.metric) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    button.title = `Sort by ${cell.dataset.metric}`;
    cell.append(button);
    button.addEventListener("click", () => {
      state.down = state.sort === cell.dataset.metric ? !state.down : false;
      state.sort = cell.dataset.metric;
      remember();
    });
  }
  const { live } = document.documentElement.dataset;
  if (live) {
    setInterval(async () => {
      const found = await fetch("version").then((answer) => (answer.ok ? answer.text() : live), () => live);
      if (found !== live) location.reload();
    }, 2000);
  }
  form.hidden = false;
  addEventListener("hashchange", read);
  show();
  read();
})();
