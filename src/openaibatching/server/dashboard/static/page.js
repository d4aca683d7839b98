// The page works without this file. It makes times local, and keeps `main` up to date: it fetches
// the same address again and changes only what differs, so that focus, open details and a
// selection stay where they are.
"use strict";

const EVERY_MS = 2000;
const GIVEN_UP_MS = 20000;
const main = document.getElementById("main");
const connection = document.getElementById("connection");
const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const day = { day: "numeric", month: "short" };
let away = null; // since when nothing has come

function local(at, exact) {
  const when = new Date(at);
  const today = when.toDateString() === new Date().toDateString();
  const seconds = exact ? { second: "2-digit" } : {};
  const said = { ...(today && !exact ? {} : day), ...clock, ...seconds };
  return when.toLocaleString(undefined, said);
}

function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    time.title = time.textContent;
    time.textContent = local(time.dateTime, "exact" in time.dataset);
  }
  for (const title of root.querySelectorAll("title[data-at]")) {
    title.textContent = `${local(title.dataset.at)}: ${title.dataset.said}`;
  }
}

// ----- changing what differs -----

function become(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  becomeChildren(old, fresh);
}

function fits(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName
    && (old.id || "") === (fresh.id || "");
}

// A row that is still there is the same row, wherever it stands now: by its id.
function becomeChildren(old, fresh) {
  const named = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  for (const child of [...old.children]) {
    if (child.id && !named.has(child.id)) child.remove();
  }
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = child.id && [...old.children].find((other) => other.id === child.id);
    if (same && same !== next && fits(same, child)) old.insertBefore(same, next);
    const found = same && fits(same, child) ? same : next;
    if (found && fits(found, child)) {
      next = found.nextSibling;
      become(found, child);
    } else {
      old.insertBefore(document.importNode(child, true), next);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function selecting() {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && main.contains(selection.anchorNode);
}

// ----- asking again -----

function say(words) {
  connection.hidden = !words;
  document.body.classList.toggle("stale", Boolean(words));
  if (connection.textContent !== words) connection.textContent = words;
}

async function look() {
  const reply = await fetch(location.href, {
    headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(GIVEN_UP_MS),
  });
  if (reply.redirected) { // signed out, or the key was revoked
    location.assign(reply.url);
    return;
  }
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  const fresh = page.getElementById("main");
  if (!fresh) throw new Error("not this page");
  if ("away" in fresh.dataset) {
    away ??= new Date();
    const since = local(away, true);
    say("away" in main.dataset ? "" : `No connection to the database since ${since}. What is shown is from before; this goes on by itself.`);
    return;
  }
  if ("away" in main.dataset) { // there was nothing to be brought up to date
    location.reload();
    return;
  }
  away = null;
  say("");
  if (selecting()) return;
  localise(fresh);
  become(main, fresh);
  document.title = page.title;
}

async function watch() {
  if (!document.hidden) {
    try {
      await look();
    } catch {
      away ??= new Date();
      say(`No connection to the server since ${local(away, true)}. What is shown is from before; this goes on by itself.`);
    }
  }
  setTimeout(watch, EVERY_MS);
}

// Who follows a link from another site comes without the cookie, and so to the form.
async function comeBack() {
  const reply = await fetch(location.href, { cache: "no-store" });
  if (reply.redirected) location.replace(reply.url);
}

localise(document);
if (location.pathname === "/sign-in") comeBack().catch(() => {});
if (main && "live" in main.dataset) {
  setTimeout(watch, EVERY_MS);
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      document.getElementById("q")?.focus();
    }
  });
}
