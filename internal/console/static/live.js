// Repeats the part of a page that changes. Everything is there without it.
const live = document.querySelector("[data-live]");
const every = Number(live?.dataset.every) || 10_000;
const seen = document.createElement("p");
seen.className = "live";
seen.setAttribute("role", "status");

// A document made by XMLHttpRequest runs no script and needs no markup from
// text, so the page's policy can forbid both.
function fetchPart() {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open("GET", location.href);
    x.responseType = "document";
    x.timeout = 10_000;
    x.setRequestHeader("Hawser-Fragment", "live");
    x.onload = () => (x.status === 200 ? resolve(x.response?.querySelector("[data-live]")) : reject(x.status));
    x.onerror = x.ontimeout = () => reject(0);
    x.send();
  });
}

function take(part) {
  for (const d of live.querySelectorAll("details[open][id]")) {
    const same = part.querySelector("#" + CSS.escape(d.id));
    if (same) same.open = true;
  }
  live.replaceChildren(...part.childNodes);
}

let stopped = false;
async function turn() {
  // What somebody reads with the keyboard or has selected is left alone.
  if (document.hidden || live.contains(document.activeElement) || String(getSelection())) return;
  try {
    const part = await fetchPart();
    if (part) take(document.importNode(part, true));
    if (seen.textContent) seen.textContent = "";
  } catch (status) {
    stopped = status === 401;
    seen.textContent = stopped ? "Your session has ended: load the page again to sign in." : "The server does not answer: this is as it was last seen.";
  }
}

if (live) {
  live.before(seen);
  const timer = setInterval(() => (stopped ? clearInterval(timer) : turn()), every);
}
