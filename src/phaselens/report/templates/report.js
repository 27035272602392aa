// Optional: makes the tables sortable. Everything on the page can be read without it.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.title = "Sort by this column";
    button.setAttribute("aria-label", "Sort by " + head.textContent.trim());
    head.insertBefore(button, head.querySelector(".unit"));
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
        const key = (row) => row.cells[column].dataset.key;
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return up ? order : -order;
        });
        body.append(...rows);
      }
    });
  });
}

// Contents: which section is read.
const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("main > section").forEach((section) => seen.observe(section));

// Hover: the numbers of a mark at once, and its model in all figures.
const main = document.querySelector("main");
const models = JSON.parse(main.dataset.models || "[]").sort((a, b) => b.length - a.length);
const marks = new Map(models.map((model) => [model, []]));
const modelIn = (words) => models.find((model) => words.includes(model));
for (const title of document.querySelectorAll("figure svg title, figure svg text")) {
  const mark = title.tagName === "text" ? title : title.parentElement;
  if (mark.tagName === "svg") continue;
  const model = title.tagName === "text" ? models.find((one) => one === title.textContent) : modelIn(title.textContent);
  if (!model) continue;
  mark.classList.add("of-model");
  mark.dataset.model = model;
  marks.get(model).push(mark);
}
let pinned = "";
function light(model) {
  main.classList.toggle("lit", Boolean(model));
  document.querySelectorAll(".keep").forEach((one) => one.classList.remove("keep"));
  (marks.get(model) || []).forEach((one) => one.classList.add("keep"));
  document.querySelectorAll(".legend span").forEach((one) => one.classList.toggle("keep", one.textContent === model));
}
for (const entry of document.querySelectorAll(".legend span")) {
  if (!marks.has(entry.textContent)) continue;
  Object.entries({ role: "button", tabindex: "0", "aria-pressed": "false" }).forEach(([k, v]) => entry.setAttribute(k, v));
  const pin = () => {
    pinned = pinned === entry.textContent ? "" : entry.textContent;
    document.querySelectorAll(".legend [role]").forEach((one) => one.setAttribute("aria-pressed", String(one.textContent === pinned)));
    light(pinned);
  };
  entry.addEventListener("click", pin);
  entry.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pin(); } });
}
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest?.("figure svg *"), title = mark?.closest("svg *:has(> title)")?.querySelector(":scope > title");
  const words = title && title.parentElement.tagName !== "svg" ? title.textContent : "";
  tip.hidden = !words;
  tip.textContent = words;
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 18}px`;
  const model = mark?.closest("[data-model]")?.dataset.model || event.target.closest?.(".legend span.keep, .legend span[role]")?.textContent || "";
  if (!pinned) light(model);
});
