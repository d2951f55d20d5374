// The trace page: the waterfall of its spans, and one of them in full.
import { html, useEffect, useLayoutEffect, useMemo, useState } from "./lib.js";
import { ask, useAnswer } from "./api.js";
import { dollars, number, seconds, short, tokensIn, tokensOut, when } from "./format.js";
import { Crumbs, Failed, Status, kindOf, useChoice } from "./parts.js";
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
  const place = Number(asked.span ?? first(rows)) || 0;
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
  const beside = (which) => answer?.[which] && here(["run", route.run, "trace", answer[which].trace_id], { writer: answer[which].writer_id, back: asked.back });
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
  const row = rows.find((one) => one.place === place) ?? rows[0];
  return html`<${Crumbs} parts=${[
      { text: answer.run.experiment, href: here(["experiment", answer.run.experiment]) },
      { text: answer.run.name, href: route.up },
      { text: answer.name || "trace" },
    ]} />
    <div class="bar title"><${Status} status=${answer.status} errors=${answer.errors} /><h1><${Line} text=${answer.name} /></h1>
      <span class="facts"><b>${seconds(answer.duration)}</b> · ${number(answer.spans)} ${answer.spans === 1 ? "span" : "spans"}${answer.model_calls ? html` · <span title=${`in ${tokensIn(answer)}; out ${tokensOut(answer)}`}>${short(answer.input_tokens)} → ${short(answer.output_tokens)} tokens</span>` : ""}${
        answer.cost === null ? "" : ` · ${dollars(answer.cost)}`}${answer.errors ? html` · <span class="bad">${number(answer.errors)} with an error</span>` : ""} · ${when(answer.start)}</span>
      <span class="grow"></span>
      ${beside("older") ? html`<a class="button" href=${beside("older")} title="The trace that started before this one  [">← older</a>` : ""}
      ${beside("newer") ? html`<a class="button" href=${beside("newer")} title="The trace that started after this one  ]">newer →</a>` : ""}</div>
    <p class="quiet ids">${answer.spooled && html`<span class="badge open" title="Not delivered yet">in this machine's spool</span> `}trace <code><${Line} text=${answer.trace_id} /></code>${answer.tags.map((tag) => html` <span class="tag" key=${tag}><${Line} text=${tag} /></span>`)}</p>
    <${Waterfall} hash=${fresh ? route.hash : ""} rows=${shown} all=${answer.spans} loaded=${rows.length} length=${answer.length} place=${place} folded=${folded} fold=${fold}
      choose=${(span) => go(link({ span }), { replace: true })} load=${load} live=${answer.status === "unfinished"} />
    ${row && html`<${SpanDetail} key=${row.place} source=${{ ...source, place: row.place }} version=${row.status === "unfinished" ? version : 0} hash=${route.hash} tab=${asked.tab} setTab=${(tab) => go(link({ tab }), { replace: true })} />`}`;
}

// The span that is shown at first: the one that failed deepest, else the first model call.
function first(rows) {
  const failed = rows.filter((row) => row.error);
  if (failed.length) return failed.reduce((deepest, row) => (row.depth > deepest.depth ? row : deepest)).place;
  return rows.find((row) => row.kind === "chat_model" || row.kind === "llm")?.place ?? 0;
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

const DEEP = 12;

function Waterfall({ hash, rows, all, loaded, length, place, folded, fold, choose, load, live }) {
  const whole = length || 1e-9;
  const marks = length > 0 ? [0, 0.25, 0.5, 0.75, 1] : [0];
  return html`<section class="card waterfall" aria-label="Spans" data-shown=${hash}>
    <div class="wf-head"><span>span</span><span class="wf-axis">${marks.map((share) => html`<i key=${share} style=${{ left: `${share * 100}%` }}>${seconds(share * whole)}</i>`)}</span><span class="number">tokens</span><span class="number">time</span></div>
    <div class="wf-rows" role="tree" aria-label="Waterfall of spans">${rows.map((row) => {
      const left = row.at === null ? 0 : Math.min(100, (row.at / whole) * 100);
      const end = row.to ?? (live || row.at !== null ? whole : row.at);
      const width = Math.max(0, Math.min(100 - left, ((end - (row.at ?? 0)) / whole) * 100));
      const open = row.place === place;
      const late = left + width > 62;
      const tokens = (row.input_tokens ?? 0) + (row.output_tokens ?? 0);
      return html`<div key=${row.place} role="treeitem" tabindex=${open ? 0 : -1} aria-selected=${open} aria-level=${row.depth + 1} aria-expanded=${row.parent ? !folded.has(row.place) : null}
          data-chosen=${open ? "" : null} class=${`wf-row kind-${kindOf(row.kind)} ${row.status}`} onClick=${() => choose(row.place)}>
        <span class="wf-name" style=${{ paddingLeft: `${Math.min(row.depth, DEEP) * 14}px` }}>
          ${row.parent ? html`<button class="fold" tabindex="-1" aria-label=${folded.has(row.place) ? "unfold" : "fold"} onClick=${(event) => {
            event.stopPropagation();
            fold(row.place, !folded.has(row.place));
          }}>${folded.has(row.place) ? "▸" : "▾"}</button>` : html`<span class="fold"></span>`}
          <i class="dot" title=${plainly(row.kind)}></i><${Line} text=${row.name || row.kind} />${row.error ? html` <span class="bad">▲</span>` : ""}${row.orphan ? html` <small class="quiet" title="The span above it is not there">orphan</small>` : ""}</span>
        <span class="wf-bar"><i class="fill" style=${{ left: `${left}%`, width: `${width}%` }}></i>${
          row.first_token !== null && row.seconds ? html`<i class="first" title=${`first token after ${seconds(row.first_token)}`} style=${{ left: `${left}%`, width: `${Math.min(width, (row.first_token / whole) * 100)}%` }}></i>` : ""}
          <i class=${`model ${late && left < 34 ? "inside" : ""}`} style=${!late ? { left: `${left + width}%` } : { right: `${left < 34 ? 100 - left - width : 100 - left}%` }}><${Line} text=${row.error ?? row.model ?? ""} /></i></span>
        <span class="number">${tokens ? short(tokens) : ""}</span>
        <span class="number">${row.seconds === null ? html`<span class="quiet">${row.status}</span>` : seconds(row.seconds)}</span></div>`;
    })}</div>
    ${loaded < all && html`<button class="link more" onClick=${load}>… ${number(all - loaded)} more spans</button>`}
  </section>`;
}
