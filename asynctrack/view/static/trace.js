// The trace page: the waterfall of its spans, and one of them in full.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./lib.js";
import { ask, useAnswer } from "./api.js";
import { dollars, number, seconds, short, tokensIn, tokensOut, when } from "./format.js";
import { Copy } from "./copy.js";
import { Crumbs, Failed, Recovered, Status, useChoice } from "./parts.js";
import { go, here } from "./route.js";
import { SpanDetail } from "./span.js";
import { Line } from "./text.js";
import { Waterfall, shownRows } from "./waterfall.js";

const TAGS = 8;

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
  // Until the answer is there, the address speaks of another trace than the page.
  const latest = useRef(0);
  if (fresh) {
    const wanted = Number(asked.span ?? answer?.chosen);
    latest.current = Number.isInteger(wanted) && wanted >= 0 && wanted < answer?.spans ? wanted : 0;
  }
  const place = latest.current;
  // A link to a wrapper shows them all.
  const all = Boolean(asked.all) || Boolean(rows.find((one) => one.place === place)?.wrapper);
  const shown = useMemo(() => shownRows(rows, folded, all), [rows, folded, all]);
  const wrappers = useMemo(() => rows.filter((one) => one.wrapper).length, [rows]);
  const chosen = shown.findIndex((row) => row.place === place);
  const link = (change) => here(["run", route.run, "trace", route.trace], { ...asked, ...change });
  const show = (change) => go(link(change), { replace: true });
  const pick = (span) => show({ span, all: all ? 1 : null });
  const choose = (n) => shown[n] && pick(shown[n].place);
  // Without wrappers the span that is shown is the one that is around it.
  const showAll = (on) => show({ all: on ? 1 : null, span: on || !rows.some((one) => one.place === place && one.wrapper) ? asked.span : (rows.findLast((one) => one.place < place && !one.wrapper)?.place ?? 0) });
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
  const other = (one) => here(["run", route.run, "trace", one.trace_id], { writer: one.writer_id, back: asked.back, md: asked.md, all: asked.all });
  const turn = (which, text, title) => answer[which] && html`<a class="button" href=${other(answer[which])} title=${title}>${text}</a>`;
  const about = (name, text) => (name === "session" ? here(["run", route.run, "session", text]) : here(["run", route.run, "sessions"], { [name]: text }));
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
      ${turn("previous_turn", "← previous turn", "The turn of this session before this one")}
      ${turn("next_turn", "next turn →", "The turn of this session after this one")}
      ${beside("older") ? html`<a class="button" href=${beside("older")} title="The trace that started before this one  [">← older</a>` : ""}
      ${beside("newer") ? html`<a class="button" href=${beside("newer")} title="The trace that started after this one  ]">newer →</a>` : ""}</div>
    <div class="bar ids quiet">${whose(answer).map(([name, text]) => html`<span class="whose" key=${name}>${name} <a href=${about(name, text)} title=${name === "session" ? "The whole conversation" : "All its sessions"}><${Line} text=${text} /></a></span>`)}
      <span>trace <code><${Line} text=${answer.trace_id} /></code> <${Copy} what="the trace's id" get=${() => answer.trace_id} /></span>
      ${answer.spooled && html`<span class="badge open" title="Not delivered yet">in this machine's spool</span>`}
      <${Tags} key=${answer.trace_id} tags=${answer.tags} /></div>
    <${Feedback} feedback=${answer.feedback} />
    ${(answer.resumes || answer.resumed_by || answer.waits.length > 0) && html`<div class="card pause">
      ${answer.resumes && html`<p>resumes <a class="way" href=${other({ trace_id: answer.resumes })}>the trace that waited</a></p>`}
      ${answer.waits.map((one) => html`<p key=${one.place}><a class="way" href=${link({ span: one.place })}><${Line} text=${one.name || "it"} /></a> ${answer.resumed_by ? "asked" : "waits for an answer"}: <${Line} text=${one.asks} /></p>`)}
      ${answer.resumed_by && html`<p>resumed by <a class="way" href=${other(answer.resumed_by)}>a later trace</a></p>`}</div>`}
    <div class="split"><${Waterfall} hash=${fresh ? route.hash : ""} rows=${shown} spans=${answer.spans} loaded=${rows.length} length=${answer.length} place=${place} folded=${folded} fold=${fold}
      choose=${pick} load=${load} wrappers=${wrappers} all=${all} showAll=${showAll} />
    ${answer.spans > 0 && html`<${SpanDetail} key=${place} source=${{ run: route.run, trace: answer.trace_id, writer: answer.writer_id, place }} version=${row?.outcome === "unfinished" ? version : 0} hash=${fresh ? route.hash : ""} times=${row}
      tab=${asked.tab} setTab=${(tab) => show({ tab })} markdown=${Boolean(asked.md)} setMarkdown=${(on) => show({ md: on ? 1 : null })} />`}</div>`;
}

// Whose trace it is, as its metadata say: a thread is named where it is not the session.
function whose(answer) {
  const { session_id: session, user_id: user, thread_id: thread } = answer;
  return [["session", session], ["thread", thread === session ? null : thread], ["user", user]].filter(([, text]) => text);
}

function Tags({ tags }) {
  const [all, setAll] = useState(false);
  const shown = all ? tags : tags.slice(0, TAGS);
  return html`${shown.map((tag) => html`<span class="tag" key=${tag}><${Line} text=${tag} /></span>`)}${
    shown.length < tags.length && html`<button class="link" onClick=${() => setAll(true)}>${number(tags.length - shown.length)} more tags</button>`}`;
}

// What people said of it later. Read only: it is logged elsewhere.
function Feedback({ feedback }) {
  if (!feedback.length) return null;
  return html`<section class="card feedback" aria-label="Feedback"><h2>Feedback</h2><ul>${feedback.map((one, n) => html`<li key=${n}><b><${Line} text=${one.name} /></b>${
    one.score === null || one.score === undefined ? "" : html` <span class="score"><${Line} text=${one.score} /></span>`}${one.comment ? html` <span><${Line} text=${one.comment} /></span>` : ""}${
    one.time ? html` <small class="quiet">${when(one.time)}</small>` : ""}</li>`)}</ul></section>`;
}
