// What a page does beyond what the server wrote: it follows (one event stream), tells
// times as distances, moves the slider of the map, and asks before an act. Without it
// every page is whole and every form works.
"use strict";

const $ = (sel, at = document) => at.querySelector(sel);
const $$ = (sel, at = document) => at.querySelectorAll(sel);

// --- light and dark
const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;

// --- times: "in 12 s", "3 min ago"; the server's clock is the one that counts
let skew = 0;
function span(s) {
  s = Math.abs(s);
  if (s < 60) return Math.round(s) + " s";
  if (s < 600) return Math.floor(s / 60) + " min " + String(Math.round(s % 60)).padStart(2, "0") + " s";
  if (s < 3600) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h " + String(Math.floor(s % 3600 / 60)).padStart(2, "0") + " min";
  return Math.round(s / 86400) + " days";
}
function tellTimes(at = document) {
  const now = Date.now() + skew;
  for (const t of $$("time.rel", at)) {
    const d = (Date.parse(t.dateTime) - now) / 1000;
    const text = Math.abs(d) < 1 ? "now" : d > 0 ? "in " + span(d) : span(d) + " ago";
    if (t.textContent !== text) t.textContent = text;
  }
}

// --- following: changed regions replace what is there, leaving alone what is the same,
// so that focus, open details and what is being typed stay
const mine = { DETAILS: ["open"], INPUT: ["value", "checked", "aria-valuetext"], DIALOG: ["open"] };
function same(a, b) { return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || ""); }
function morph(from, to) {
  if (from.nodeType === Node.TEXT_NODE) { if (from.data !== to.data) from.data = to.data; return; }
  if (from.nodeType !== Node.ELEMENT_NODE) return;
  const keep = mine[from.nodeName] || [];
  for (const { name, value } of to.attributes) if (!keep.includes(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const { name } of [...from.attributes]) if (!keep.includes(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  if (from.matches("time.rel")) return;
  let a = from.firstChild, b = to.firstChild;
  while (b) {
    const next = b.nextSibling;
    if (!a) { from.append(b); }
    else if (same(a, b)) { morph(a, b); a = a.nextSibling; }
    else { const old = a; a = a.nextSibling; old.replaceWith(b); }
    b = next;
  }
  while (a) { const next = a.nextSibling; a.remove(); a = next; }
}
function apply(news) {
  let last = $("#offline");
  for (const id of news.gone || []) $("#r-" + CSS.escape(id))?.remove();
  for (const p of news.parts || []) {
    const id = "r-" + p.id;
    let el = document.getElementById(id);
    const fresh = document.createElement("section");
    fresh.id = id; fresh.className = "region"; fresh.innerHTML = p.html;
    if (!el) last.after(el = fresh); else morph(el, fresh);
    last = el;
    tellTimes(el);
  }
  slide();
}
let source, heard = Date.now();
function follow() {
  if (!$("#main[data-page]")) return;
  source = new EventSource(location.href);
  const well = () => { heard = Date.now(); $("#offline").hidden = true; document.body.dataset.live = "yes"; };
  source.onmessage = (e) => { well(); apply(JSON.parse(e.data)); };
  source.addEventListener("breath", well);
  source.onerror = () => { document.body.dataset.live = "no"; if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000); };
}
setInterval(() => {
  tellTimes();
  if ($("#main[data-page]") && (document.body.dataset.live === "no" && Date.now() - heard > 3000 || Date.now() - heard > 25000)) {
    $("#offline").hidden = false;
  }
}, 1000);

// --- the map: headroom by slot, a letter each
const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.~!*():@,;+=/?|^$";
const what = { c: "cpu", m: "memory", n: "net", d: "disk" };
let slid = false;
function slide() {
  const s = $("#slot");
  if (!s || !slid) return;
  const i = +s.value, marks = s.dataset.marks.split("|");
  $("#slot-says").textContent = i ? "in " + marks[i] : "now";
  s.setAttribute("aria-valuetext", i ? "in " + marks[i] : "now");
  for (const t of $$(".t[data-h]")) {
    const h = t.dataset.h;
    if (!h) continue;
    const at = letters.indexOf(h[i]), free = -60 + 2 * at;
    const k = free < 0 ? "k0" : free < 10 ? "k1" : free < 20 ? "k2" : free < 30 ? "k3" : free < 50 ? "k4" : "k5";
    if (!t.classList.contains(k)) { t.classList.remove("k0", "k1", "k2", "k3", "k4", "k5"); t.classList.add(k); }
    if (t.dataset.r) {
      $(".free", t).textContent = (at === 0 ? "≥" : "") + Math.abs(free) + " %";
      $(".what", t).textContent = what[t.dataset.r[i]] + (free < 0 ? " short" : " free");
    } else t.textContent = (at === 0 ? "≤" : "") + free;
  }
}

// --- acts: asked for once more where they weigh, then sent without leaving the page
function say(text, bad) {
  const p = document.createElement("p");
  p.className = "note" + (bad ? " bad" : "");
  p.textContent = text;
  $("#notes").append(p);
  setTimeout(() => p.remove(), bad ? 20000 : 8000);
}
function ask(text) {
  const d = $("#ask");
  $("#ask-what").textContent = text;
  const why = $("input[name=why]", d);
  why.value = "";
  d.returnValue = "";
  d.showModal();
  return new Promise((done) => d.addEventListener("close", () => done(d.returnValue === "yes" ? { why: why.value } : null), { once: true }));
}
document.addEventListener("submit", async (e) => {
  const form = e.target;
  if (!form.matches(".act-form")) return;
  e.preventDefault();
  const body = new FormData(form);
  const button = e.submitter || $("button", form);
  if (button.dataset.ask) {
    const yes = await ask(button.dataset.ask);
    if (!yes) return;
    if (yes.why) body.set("why", yes.why);
  }
  button.disabled = true;
  try {
    const plain = form.enctype !== "multipart/form-data";
    const r = await fetch(form.action, { method: "POST", body: plain ? new URLSearchParams(body) : body, headers: { Accept: "application/json", "X-Foreshift-CSRF": document.body.dataset.csrf } });
    const out = await r.json();
    say(out.error || out.said, !r.ok);
    if (r.ok && form.dataset.clear) form.reset();
    if (out.go) location.assign(out.go);
  } catch (err) {
    say("No answer: " + err.message, true);
  } finally {
    button.disabled = false;
  }
});

addEventListener("DOMContentLoaded", () => {
  const button = $(".theme");
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme:dark)").matches;
      document.documentElement.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem("theme", dark ? "light" : "dark");
    });
  }
  $("#slot")?.addEventListener("input", (e) => { slid = true; slide(); });
  $("#slot")?.form.addEventListener("submit", (e) => e.preventDefault());
  // an address with the token behind "#" signs in at once; the token is sent only in the form
  const token = $("#token");
  if (token && location.hash.length > 1) {
    token.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
    token.form.submit();
    return;
  }
  tellTimes();
  follow();
});
