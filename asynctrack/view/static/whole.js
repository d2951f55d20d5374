// A text of any length: as it was logged, as Markdown, or as the value that it is as JSON.
import { createContext, html, useContext, useState } from "./lib.js";
import { ask } from "./api.js";
import { number } from "./format.js";
import { LONGEST, Markdown } from "./markdown.js";
import { visible } from "./text.js";

// Whether texts are shown as Markdown.
export const AsMarkdown = createContext(false);

const SHARE = 50_000;

// A long text in shares that end with a line where they can: the browser lays out only what is seen.
function shares(text) {
  const found = [];
  let at = 0;
  while (at < text.length) {
    let end = Math.min(text.length, at + SHARE);
    if (end < text.length) {
      const line = text.lastIndexOf("\n", end) + 1;
      if (line > at + SHARE / 2) end = line;
      else if (/[\ud800-\udbff]/.test(text[end - 1])) end -= 1;
    }
    found.push(text.slice(at, end));
    at = end;
  }
  return found;
}

// The rest of a text that is cut, in pieces; `source` says where that is asked for.
async function rest(text, source) {
  const pieces = [];
  let at = text.shown;
  while (at < text.length) {
    const { piece, next } = await ask("text", { ...source, number: text.number, at });
    if (next <= at) break;
    pieces.push(piece);
    at = next;
  }
  return pieces;
}

export async function wholeText(text, source) {
  if (text.length === undefined) return text.text;
  return [text.text, ...(await rest(text, source))].join("");
}

// A text. A cut one offers the rest; one that is JSON is shown as its value, and as it was logged.
export function Whole({ text, source, class: name = "" }) {
  const [asLogged, setAsLogged] = useState(false);
  if (!text.unfolded) return html`<${Pieces} text=${text} source=${source} class=${name} />`;
  return html`<p class="unfolded"><span class="quiet">${asLogged ? "as it was logged" : name.includes("mono") ? "strings in it are JSON: shown as values" : "a string that is JSON: shown as its value"}</span>
      <button class="link" aria-pressed=${asLogged} onClick=${() => setAsLogged(!asLogged)}>${asLogged ? "show values" : "as it was logged"}</button></p>
    ${asLogged ? html`<${Pieces} key="logged" text=${text} source=${source} class=${`mono ${name}`} />` : html`<${Pieces} key="value" text=${text.unfolded} source=${source} class="mono" />`}`;
}

function Pieces({ text, source, class: name = "" }) {
  const [more, setMore] = useState([]);
  const [state, setState] = useState("cut");
  const load = async () => {
    setState("loading");
    try {
      setMore((await rest(text, source)).flatMap(shares));
      setState("whole");
    } catch (error) {
      setState(error.message);
    }
  };
  const cut = text.length !== undefined;
  const markdown = useContext(AsMarkdown) && !name.includes("mono") && (state === "whole" ? text.length : text.text.length) <= LONGEST;
  return html`<div class=${`logged ${name}`} dir="auto">${markdown ? html`<${Markdown} text=${text.text + more.join("")} />` : html`${visible(text.text)}${more.map(
    (piece, n) => html`<div class="piece" key=${n}>${visible(piece)}</div>`,
  )}`}</div>
    ${cut && state === "cut" && source && html`<button class="link more" onClick=${load}>
      … load the whole: ${number(text.length)} characters, ${number(text.shown)} shown</button>`}
    ${cut && state === "loading" && html`<p class="quiet">loading …</p>`}
    ${cut && !["cut", "loading", "whole"].includes(state) && html`<p class="bad">${state}</p>`}`;
}
