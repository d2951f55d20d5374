// Parts that several pages use.
import { Fragment, html, render, useEffect, useLayoutEffect, useRef } from "./lib.js";
import { dollars, number, percent, seconds, short, tokensIn, tokensOut } from "./format.js";
import { Line, plainly } from "./text.js";

// The way from the first page to this one; the last part is this page's title.
export function Crumbs({ parts }) {
  const title = plainly(parts.map((part) => part.text).join(" / "));
  useLayoutEffect(() => {
    document.title = title ? `${title.slice(0, 120)} – asynctrack` : "asynctrack";
    render(
      html`${parts.map((part, n) => html`<${Fragment} key=${n}><span class="slash">/</span>${
        part.href ? html`<a href=${part.href}><${Line} text=${part.text} /></a>` : html`<strong><${Line} text=${part.text} /></strong>`
      }<//>`)}`,
      document.getElementById("crumbs"),
    );
  });
  return null;
}

// A field that is typed into. What the address says reaches it only while nobody types: what is
// drawn for one key may come after the next, and would take that away again.
export function Field({ value, ...rest }) {
  const field = useRef(null);
  useEffect(() => {
    if (field.current !== document.activeElement) field.current.value = value ?? "";
  }, [value]);
  return html`<input ref=${field} ...${rest} />`;
}

// What may be wider than a phone: it is scrolled for itself, with the keyboard as well.
export function Scroll({ label, children }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>${children}</div>`;
}

export function Failed({ error }) {
  return html`<p class="bad" role="alert">${error.message}</p>`;
}

export function State({ run }) {
  return html`<${Reading} run=${run} /> ${run.sampled && html`<span class="badge open sampled" title=${`${plainly(run.sampled.said)}. All numbers are of the traces that were kept`}>${number(run.sampled.kept)} of ${number(run.sampled.traces)} traces kept</span>`}`;
}

function Reading({ run }) {
  if (run.error) return html`<span class="badge bad" title=${plainly(run.error)}>cannot be read</span>`;
  if (run.phase === "waiting") return html`<span class="badge">waiting</span>`;
  if (run.phase === "reading") return html`<span class="badge busy">reading</span>`;
  if (run.live) return html`<span class="badge live"><i></i>live</span>`;
  return run.closed ? html`<span class="badge">closed</span>` : html`<span class="badge open" title="Its writers have not said that they ended">open</span>`;
}

export function Tile({ name, title, class: kind = "", children }) {
  return html`<div class=${`tile ${kind}`} title=${title}><dt>${name}</dt><dd>${children}</dd></div>`;
}

// What a number of endings means, in words.
export function meaning(name, totals) {
  return `${ENDINGS[name].means}: ${number(totals[name])}`;
}

export function Totals({ totals, priced }) {
  const { latency, first_token: first } = totals;
  return html`<dl class="tiles">
    <${Tile} name="traces" title=${`${number(totals.spans)} spans, ${number(totals.model_calls)} model calls`}>${short(totals.traces)}<//>
    ${Object.keys(ENDINGS).map((name) => (totals[name] > 0 || name === "failed") && html`<${Tile} key=${name} name=${name} class=${name === "failed" && totals.failed ? "bad" : ""} title=${meaning(name, totals)}>${
      short(totals[name])}${name === "recovered" ? "" : html` <small>${percent(totals[name], totals.traces)}</small>`}<//>`)}
    <${Tile} name="p50">${seconds(latency?.p50)}<//>
    <${Tile} name="p95">${seconds(latency?.p95)}<//>
    <${Tile} name="p99">${seconds(latency?.p99)}<//>
    ${first && html`<${Tile} name="first token p50" title="From the start of a trace to the first text that a model streamed">${seconds(first.p50)}<//>`}
    <${Tile} name="tokens in" title=${tokensIn(totals)}>${short(totals.input_tokens)}<//>
    <${Tile} name="tokens out" title=${tokensOut(totals)}>${short(totals.output_tokens)}<//>
    ${priced && html`<${Tile} name="cost">${dollars(totals.cost)}<//>`}
  </dl>`;
}

// The kinds of spans that have a colour of their own; any other shows as a chain.
const KINDS = new Set(["chain", "prompt", "chat_model", "llm", "tool", "retriever", "parser"]);
export const kindOf = (kind) => (KINDS.has(kind) ? kind : "chain");

// How a call can end: its sign, what traces that did so are called, and what it
// means. The same as OUTCOMES in asynctrack/_common/outcome.py.
export const OUTCOMES = {
  ok: { sign: "●", called: "ended well", means: "Their roots ended well" },
  error: { sign: "▲", called: "failed", means: "Their roots ended with an error" },
  cancelled: { sign: "■", called: "cancelled", means: "Nobody wanted their results any more" },
  interrupted: { sign: "◆", called: "interrupted", means: "LangGraph left them, to wait for somebody or to go on elsewhere" },
  unfinished: { sign: "◌", called: "unfinished", means: "Their ends are not there" },
  abandoned: { sign: "○", called: "abandoned", means: "Their writer gave up waiting for their ends" },
};
export const RECOVERED = { called: "recovered", means: "Errors that came up in traces that did not fail" };

// What is counted of traces that did not end well, or not without errors, by its name in totals.
const { ok, error, ...others } = OUTCOMES;
export const ENDINGS = { failed: error, recovered: RECOVERED, ...others };

export function Status({ outcome, said = outcome }) {
  return html`<span class=${`status ${outcome}`} title=${said} aria-label=${said} role="img">${OUTCOMES[outcome].sign}</span>`;
}

// Errors below a root that did not fail.
export function Recovered({ count }) {
  return count > 0 && html`<span class="badge recovered" title=${RECOVERED.means}>${number(count)} recovered</span>`;
}

// Arrow keys move in a list of `count`; the chosen one is kept in sight.
export function useChoice(count, chosen, choose, { open, left, right, active = true } = {}) {
  const latest = useRef();
  latest.current = { count, chosen, choose, open, left, right };
  useEffect(() => {
    if (!active) return undefined;
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
      const now = latest.current;
      const moves = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: 10, PageUp: -10 };
      if (event.key in moves) {
        if (!now.count) return;
        event.preventDefault();
        const from = now.chosen ?? (moves[event.key] > 0 ? -1 : now.count);
        now.choose(Math.max(0, Math.min(now.count - 1, from + moves[event.key])));
      } else if (event.key === "Home" || event.key === "End") {
        if (!now.count) return;
        event.preventDefault();
        now.choose(event.key === "Home" ? 0 : now.count - 1);
      } else if (event.key === "Enter" && now.open && now.chosen !== null && !event.target.closest("a, button, summary")) {
        event.preventDefault();
        now.open(now.chosen);
      } else if (event.key === "ArrowLeft" && now.left) {
        event.preventDefault();
        now.left();
      } else if (event.key === "ArrowRight" && now.right) {
        event.preventDefault();
        now.right();
      }
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [active]);
  useEffect(() => {
    document.querySelector("[data-chosen]")?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
}

export function Pager({ page, pages, more, link }) {
  return html`<nav class="pager" aria-label="Pages">
    ${page > 0 ? html`<a href=${link(page - 1)} rel="prev">← previous</a>` : html`<span class="quiet">← previous</span>`}
    <span>page ${number(page + 1)}${pages ? ` of ${number(pages)}` : ""}</span>
    ${more ? html`<a href=${link(page + 1)} rel="next">next →</a>` : html`<span class="quiet">next →</span>`}
  </nav>`;
}
