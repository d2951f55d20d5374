// The trace page: the waterfall of its spans, and one of them in full.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./lib.js";
import { ask, useAnswer } from "./api.js";
import { dollars, number, seconds, short, tokensIn, tokensOut, when } from "./format.js";
import { Crumbs, Failed, Recovered, Status, kindOf, useChoice } from "./parts.js";
import { go, here } from "./route.js";
import { SpanDetail } from "./span.js";
import { Line, plainly } from "./text.js";

export function Trace({ route, state }) {
  const { asked } = route;
  const source = { run: route.run, trace: route.trace, writer: asked.writer };
  const version = state.run?.version ?? 0;
  const { answer, error, fresh } = useAnswer("trace", source, version);
  const [more, setMore] = useState([]);
  const [folded, setFolded] = useState(new Set());
  useEffect(() => {
    setMore([]);
    setFolded(new Set());
  }, [route.trace]);
  const rows = useMemo(() => (answer ? [...answer.rows, ...more] : []), [answer, more]);
  const shown = useMemo(() => unfolded(rows, folded), [rows, folded]);
  // Until the answer is there, the address speaks of another trace than the page.
  const latest = useRef(0);
  if (fresh) {
    const wanted = Number(asked.span ?? answer?.chosen);
    latest.current = Number.isInteger(wanted) && wanted >= 0 && wanted < answer?.spans ? wanted : 0;
  }
  const place = latest.current;
  const chosen = shown.findIndex((row) => row.place === place);
  const link = (change) => here(["run", route.run, "trace", route.trace], { ...asked, ...change });
  const choose = (n) => shown[n] && go(link({ span: shown[n].place }), { replace: true });
  const fold = (span, away) => {
    if (folded.has(span) === away) return;
    const next = new Set(folded);
    if (away) next.add(span);
    else next.delete(span);
    setFolded(next);
  };
  useChoice(shown.length, chosen < 0 ? null : chosen, choose, { left: () => fold(place, true), right: () => fold(place, false) });
  const beside = (which) => answer?.[which] && other(answer[which]);
  // At once: the next key must not meet the handler of the trace that was shown before.
  useLayoutEffect(() => {
    const pressed = (event) => {
      if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
      const to = event.key === "[" ? beside("older") : event.key === "]" ? beside("newer") : null;
      if (to) go(to);
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  });
  const load = async () => {
    const next = await ask("trace", { ...source, after: rows.length });
    setMore([...more, ...next.rows]);
  };
  if (error && !answer) {
    return state.run && state.run.phase !== "ready" ? html`<p class="quiet">not read yet: it comes with the rest of the run …</p>` : html`<${Failed} error=${error} />`;
  }
  if (!answer) return html`<p class="quiet">asking …</p>`;
  const row = rows.find((one) => one.place === place);
  const other = (one) => here(["run", route.run, "trace", one.trace_id], { writer: one.writer_id, back: asked.back });
  return html`<${Crumbs} parts=${[
      { text: answer.run.experiment, href: here(["experiment", answer.run.experiment]) },
      { text: answer.run.name, href: route.up },
      { text: answer.name || "trace" },
    ]} />
    <div class="bar title"><${Status} outcome=${answer.outcome} said=${answer.said} /><h1><${Line} text=${answer.name} /></h1>
      <span class="facts">${answer.outcome === "ok" ? "" : html`<b class=${`said ${answer.outcome}`}>${answer.said}</b> · `}<b>${seconds(answer.duration)}</b>${
        answer.first_token === null ? "" : html` · <span title="From its start to the first text that a model streamed">first token after <b>${seconds(answer.first_token)}</b></span>`} · ${number(answer.spans)} ${answer.spans === 1 ? "span" : "spans"}${answer.input_tokens + answer.output_tokens ? html` · <span title=${`in ${tokensIn(answer)}; out ${tokensOut(answer)}`}>${short(answer.input_tokens)} → ${short(answer.output_tokens)} tokens</span>` : ""}${
        answer.cost === null ? "" : ` · ${dollars(answer.cost)}`} · ${when(answer.start)}</span> <${Recovered} count=${answer.recovered} />
      <span class="grow"></span>
      ${beside("older") ? html`<a class="button" href=${beside("older")} title="The trace that started before this one  [">← older</a>` : ""}
      ${beside("newer") ? html`<a class="button" href=${beside("newer")} title="The trace that started after this one  ]">newer →</a>` : ""}</div>
    <p class="quiet ids">${answer.spooled && html`<span class="badge open" title="Not delivered yet">in this machine's spool</span> `}trace <code><${Line} text=${answer.trace_id} /></code>${answer.tags.map((tag) => html` <span class="tag" key=${tag}><${Line} text=${tag} /></span>`)}</p>
    ${(answer.resumes || answer.resumed_by || answer.waits.length > 0) && html`<div class="card pause">
      ${answer.resumes && html`<p>resumes <a class="way" href=${other({ trace_id: answer.resumes })}>the trace that waited</a></p>`}
      ${answer.waits.map((one) => html`<p key=${one.place}><a class="way" href=${link({ span: one.place })}><${Line} text=${one.name || "it"} /></a> ${answer.resumed_by ? "asked" : "waits for an answer"}: <${Line} text=${one.asks} /></p>`)}
      ${answer.resumed_by && html`<p>resumed by <a class="way" href=${other(answer.resumed_by)}>a later trace</a></p>`}</div>`}
    <${Waterfall} hash=${fresh ? route.hash : ""} rows=${shown} all=${answer.spans} loaded=${rows.length} length=${answer.length} place=${place} folded=${folded} fold=${fold}
      choose=${(span) => go(link({ span }), { replace: true })} load=${load} />
    ${answer.spans > 0 && html`<${SpanDetail} key=${place} source=${{ run: route.run, trace: answer.trace_id, writer: answer.writer_id, place }} version=${row?.outcome === "unfinished" ? version : 0} hash=${fresh ? route.hash : ""} tab=${asked.tab} setTab=${(tab) => go(link({ tab }), { replace: true })} />`}`;
}

// The rows that are not below a folded one; each knows whether something is below it.
function unfolded(rows, folded) {
  const shown = [];
  let away = Infinity;
  rows.forEach((row, n) => {
    if (row.depth > away) return;
    away = folded.has(row.place) ? row.depth : Infinity;
    shown.push({ ...row, parent: rows[n + 1]?.depth > row.depth });
  });
  return shown;
}

// What stands beside a bar: what came of it if it did not end well, else its model.
function note(row) {
  if (row.error) return row.error;
  if (row.hands_on) return row.cause === "handoff" ? `→ ${row.hands_on}` : `asks: ${row.hands_on}`;
  return row.outcome === "cancelled" || row.outcome === "interrupted" ? row.said : (row.model ?? "");
}

const DEEP = 12;

function Waterfall({ hash, rows, all, loaded, length, place, folded, fold, choose, load }) {
  const whole = length || 1e-9;
  const marks = length > 0 ? [0, 0.25, 0.5, 0.75, 1] : [0];
  return html`<section class="card waterfall" aria-label="Spans" data-shown=${hash}>
    <div class="wf-head"><span>span</span><span class="wf-axis">${marks.map((share) => html`<i key=${share} style=${{ left: `${share * 100}%` }}>${seconds(share * whole)}</i>`)}</span><span class="number">tokens</span><span class="number">time</span></div>
    <div class="wf-rows" role="tree" aria-label="Waterfall of spans">${rows.map((row) => {
      const left = row.at === null ? 0 : Math.min(100, (row.at / whole) * 100);
      // As long as it took, whatever the clock said at its end; to the right edge if no end is known.
      const endless = row.duration === null && ["unfinished", "abandoned"].includes(row.outcome);
      const width = row.at === null ? 0 : endless ? 100 - left : Math.min(100 - left, ((row.duration ?? 0) / whole) * 100);
      const open = row.place === place;
      const late = left + width > 62;
      const tokens = (row.input_tokens ?? 0) + (row.output_tokens ?? 0);
      return html`<div key=${row.place} role="treeitem" tabindex=${open ? 0 : -1} aria-selected=${open} aria-level=${row.depth + 1} aria-expanded=${row.parent ? !folded.has(row.place) : null}
          data-chosen=${open ? "" : null} class=${`wf-row kind-${kindOf(row.kind)} ${row.outcome}`} onClick=${() => choose(row.place)}>
        <span class="wf-name" style=${{ paddingLeft: `${Math.min(row.depth, DEEP) * 14}px` }}>
          ${row.parent ? html`<button class="fold" tabindex="-1" aria-label=${folded.has(row.place) ? "unfold" : "fold"} onClick=${(event) => {
            event.stopPropagation();
            fold(row.place, !folded.has(row.place));
          }}>${folded.has(row.place) ? "▸" : "▾"}</button>` : html`<span class="fold"></span>`}
          <i class="dot" title=${plainly(row.kind)}></i><${Line} text=${row.name || row.kind} />${row.outcome === "ok" ? "" : html` <${Status} outcome=${row.outcome} said=${row.said} />`}${row.orphan ? html` <small class="quiet" title="It names a parent that nobody has seen">parent not known</small>` : ""}</span>
        <span class="wf-bar">${row.at !== null && html`<i class="fill" style=${{ left: `${left}%`, width: `${width}%` }}></i>`}${
          row.first_token !== null && row.at !== null && row.duration ? html`<i class="first" title=${`first token after ${seconds(row.first_token)}`} style=${{ left: `${left}%`, width: `${Math.min(width, (row.first_token / whole) * 100)}%` }}></i>` : ""}
          <i class=${`model ${late && left < 34 ? "inside" : ""}`} style=${!late ? { left: `${left + width}%` } : { right: `${left < 34 ? 100 - left - width : 100 - left}%` }}><${Line} text=${note(row)} /></i></span>
        <span class="number">${tokens ? short(tokens) : ""}</span>
        <span class="number">${row.duration === null && row.outcome !== "ok" ? html`<span class="quiet">${row.outcome}</span>` : seconds(row.duration)}</span></div>`;
    })}</div>
    ${loaded < all && html`<button class="link more" onClick=${load}>… ${number(all - loaded)} more spans</button>`}
  </section>`;
}
