// Searches and sorts the cards of a sheet, which stand in the page with all of their texts.
(() => {
  "use strict";
  const root = document.querySelector(".gs"), find = (name) => root.querySelector(".gs-" + name);
  const [search, text, order, size, warned] = ["search", "text", "order", "size", "warned"].map(find);
  const cards = [...root.querySelectorAll(".gs-card")].map((card, place) => ({
    card, place, words: card.dataset.search, name: card.dataset.name, warnings: Number(card.dataset.warnings),
    cells: [...card.querySelectorAll(".gs-cell")].map((cell) => ({
      cell, text: cell.dataset.text, score: "score" in cell.dataset ? Number(cell.dataset.score) : NaN,
    })),
  }));
  const byName = new Intl.Collator(undefined, { numeric: true }).compare;
  const last = (value) => Number.isNaN(value) ? 1 : 0;  // scores that are not known stand behind all others
  const orders = {
    given: () => 0,
    name: (one, other) => byName(one.name, other.name),
    highest: (one, other) => last(one.score) - last(other.score) || other.score - one.score,
    lowest: (one, other) => last(one.score) - last(other.score) || one.score - other.score,
    warnings: (one, other) => other.warnings - one.warnings,
  };

  function update() {
    const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean), chosen = text === null ? "" : text.value;
    for (const one of cards) {
      const cells = one.cells.filter((cell) => chosen === "" || cell.text === chosen);
      const scores = cells.map((cell) => cell.score).filter((score) => !Number.isNaN(score));
      one.score = scores.length ? Math.max(...scores) : NaN;
      for (const cell of one.cells) {
        cell.cell.hidden = !cells.includes(cell);
        cell.cell.classList.toggle("gs-best", cells.length > 1 && cell.score === one.score);
      }
      one.shown = asked.every((word) => one.words.includes(word)) && (chosen === "" || cells.length > 0)
        && (!warned.checked || one.warnings > 0);
      one.card.hidden = !one.shown;
    }
    const sorted = [...cards].sort((one, other) => orders[order.value](one, other) || one.place - other.place);
    find("cards").replaceChildren(...sorted.map((one) => one.card));
    const count = cards.filter((one) => one.shown).length;
    const all = cards.length === 1 ? "1 picture" : `${cards.length} pictures`;
    find("count").textContent = count === cards.length ? all : `${count} of ${all}`;
  }

  for (const one of [search, text, order, warned]) one?.addEventListener("input", update);
  size.addEventListener("input", () => root.style.setProperty("--size", `${size.value}px`));
  find("controls").hidden = false;
  update();
})();
