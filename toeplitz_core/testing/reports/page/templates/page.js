// Copying, filtering and opening. Without this program, the page shows all it has.
"use strict";
const all = (selector) => [...document.querySelectorAll(selector)];
const cards = all("article.card");

for (const button of all("button[data-copy]")) {
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const target = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(target.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(target);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// Some browsers let the keyboard scroll only what can have the focus.
const scrollable = () => {
  const boxes = all(".scroll, pre");
  const longer = boxes.map((box) => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight);
  boxes.forEach((box, at) => { if (longer[at]) box.tabIndex = 0; else box.removeAttribute("tabindex"); });
};
let pending = 0;
const later = () => { pending ||= requestAnimationFrame(() => { pending = 0; scrollable(); }); };
addEventListener("resize", later);
document.addEventListener("toggle", later, true);
later();

const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || !target.classList.contains("card")) return;
  target.hidden = false;
  const details = target.querySelector("details");
  details.open = true;
  target.scrollIntoView();
  details.querySelector("summary").focus({ preventScroll: true });
};
addEventListener("hashchange", reveal);
// At first the browser goes to the address itself, which would take the focus away again.
addEventListener("load", () => setTimeout(reveal));

const tools = document.querySelector(".tools");
if (tools) {
  tools.hidden = false;
  const input = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const card of cards) {
      const text = `${card.id} ${card.dataset.words}`.toLowerCase();
      card.hidden = !words.every((word) => text.includes(word));
      count += !card.hidden;
    }
    shown.textContent = words.length ? `${count} of ${cards.length} findings` : "";
  };
  input.addEventListener("input", filter);
  for (const button of tools.querySelectorAll("button[data-open]")) {
    button.addEventListener("click", () => {
      for (const card of cards) if (!card.hidden) card.querySelector("details").open = button.dataset.open === "all";
    });
  }
}

// On paper, cards are open. Scripts and tracebacks stay folded unless a reader has opened them.
let folded = [];
addEventListener("beforeprint", () => {
  folded = cards.map((card) => card.querySelector("details")).filter((details) => !details.open);
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => { for (const details of folded) details.open = false; });
