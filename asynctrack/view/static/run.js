// The run page: its traces, searched and filtered; live while it is being written.
import { html, useMemo, useRef, useState } from "./lib.js";
import { useAnswer } from "./api.js";
import { Histogram, Timeline } from "./charts.js";
import { dollars, number, seconds, short, time, tokensIn, tokensOut, when } from "./format.js";
import { Components } from "./components.js";
import { FILTERS, Filters } from "./filters.js";
import { Crumbs, Failed, Pager, Recovered, Scroll, State, Status, Totals, useChoice } from "./parts.js";
import { go, here, readRoute } from "./route.js";
import { Line } from "./text.js";

const SORTS = { newest: "newest first", oldest: "oldest first", slowest: "slowest first", fastest: "fastest first", tokens: "most tokens first", cost: "most expensive first", spans: "most spans first" };

export function Run({ route, state }) {
  const { asked } = route;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, asked[name]]));
  const page = Number(asked.page ?? 0) || 0;
  const version = state.run?.version ?? 0;
  // What is on a later page must not move while it is read: only the first one follows the run.
  const moves = page === 0 && !asked.hold;
  const run = useAnswer("run", { run: route.run }, version);
  const shown = { run: route.run, ...filters, sort: asked.sort, page: asked.page };
  const traces = useAnswer("traces", shown, moves ? version : 0);
  const overview = useAnswer("overview", { run: route.run, ...filters }, version);
  // The list comes first: the rest follows the filters when that is there.
  const there = traces.fresh && overview.fresh;
  const facets = useAnswer(there ? "facets" : null, { run: route.run, ...filters }, version);
  const components = useAnswer(there ? "components" : null, { run: route.run, ...filters }, version);
  const [chosen, choose] = useState(null);
  // What an answer made stays as it is until the next one: drawing it anew takes time.
  const back = useRef("");
  if (traces.fresh) back.current = new URLSearchParams(Object.entries(asked)).toString();
  const rows = traces.answer?.traces ?? [];
  const link = (change) => here(["run", route.run], { ...asked, page: null, ...change });
  // Changed is the address as it is by then; one that was left is not called back.
  const set = (change, replace = false) => {
    const now = readRoute(location.hash);
    if (now.page === "run" && now.run === route.run) go(here(["run", route.run], { ...now.asked, page: null, ...change }), { replace });
  };
  const open = (row) => here(["run", route.run, "trace", row.trace_id], { writer: row.writer_id, back: back.current });
  useChoice(rows.length, chosen, choose, { open: (n) => go(open(rows[n])) });
  const priced = run.answer?.priced;
  const table = useMemo(() => html`<${Table} rows=${rows} chosen=${chosen} open=${open} priced=${priced} />`, [traces.answer, chosen, back.current, priced]);
  const charts = useMemo(() => overview.answer && html`<${Charts} overview=${overview.answer} set=${set} />`, [overview.answer]);
  const more = useMemo(() => run.answer && html`<${About} about=${run.answer} />`, [run.answer]);
  const parts = useMemo(() => components.answer && html`<${Components} answer=${components.answer} stale=${!components.fresh} hash=${components.fresh ? route.hash : ""} link=${(change) => link(change)} />`, [components.answer, components.fresh, route.hash]);
  if (run.error && !run.answer) return html`<${Failed} error=${run.error} />`;
  if (!run.answer) return html`<p class="quiet">asking …</p>`;
  const about = run.answer;
  const totals = overview.answer?.totals;
  const error = traces.error ?? overview.error ?? facets.error ?? components.error;
  const filtered = FILTERS.some((name) => asked[name]);
  return html`<${Crumbs} parts=${[{ text: about.experiment, href: here(["experiment", about.experiment]) }, { text: about.name }]} />
    <div class="bar title"><h1><${Line} text=${about.name} /></h1><${State} run=${state.run ? { ...about, ...state.run } : about} />
      ${(state.run?.spooled ?? about.spooled) > 0 && html`<span class="badge open spool" title="They are shown all the same">${number(state.run?.spooled ?? about.spooled)} events are in this machine's spool: not delivered yet</span>`}
      <a class="button" href=${here(["run", route.run, "sessions"], filters)}>sessions</a>
      <span class="grow"></span><span class="quiet address"><${Line} text=${about.uris[0]} /></span></div>
    ${about.problem_count > 0 && html`<details class="card bad"><summary>${number(about.problem_count)} ${about.problem_count === 1 ? "thing" : "things"} could not be read</summary>
      <ul>${about.problems.map((text, n) => html`<li key=${n}><${Line} text=${text} /></li>`)}</ul></details>`}
    ${about.error && html`<p class="bad" role="alert"><${Line} text=${about.error} /></p>`}
    ${totals && html`<${Totals} totals=${totals} priced=${about.priced} />`}
    <${Filters} asked=${asked} facets=${facets.answer} set=${set} />
    ${error && html`<${Failed} error=${error} />`}
    ${charts}
    ${parts}
    <section class=${`card ${traces.fresh ? "" : "stale"}`} data-shown=${traces.fresh && overview.fresh ? route.hash : ""}>
      <div class="bar"><h2>${totals ? `${number(totals.traces)} ${filtered ? "matching " : ""}${totals.traces === 1 ? "trace" : "traces"}` : "traces"}</h2>
        ${filtered && html`<a href=${here(["run", route.run])}>clear all filters</a>`}
        <span class="grow"></span>
        <label>sort <select value=${asked.sort ?? "newest"} onChange=${(event) => set({ sort: event.target.value })}>
          ${about.sorts.filter((name) => name !== "cost" || about.priced).map((name) => html`<option key=${name} value=${name}>${SORTS[name] ?? name}</option>`)}</select></label></div>
      ${table}
      ${traces.answer && !rows.length && html`<p class="quiet empty">${filtered ? "no trace matches" : about.phase === "ready" ? "no trace yet" : "reading …"}</p>`}
      ${traces.answer && (page > 0 || traces.answer.more) && html`<${Pager} page=${page} more=${traces.answer.more}
        pages=${totals ? Math.max(1, Math.ceil(totals.traces / traces.answer.size)) : null} link=${(to) => link({ page: to || null })} />`}
    </section>
    ${more}`;
}

const round = (value) => Number(value.toPrecision(4));

function Charts({ overview, set }) {
  const { bins, per_ten: perTen, buckets, bucket_count: count, totals } = overview;
  return html`<div class="charts two">
    <figure class="card"><figcaption>Latency <span class="quiet">drag to choose a range</span></figcaption>
      <${Histogram} bins=${bins} perTen=${perTen} onPick=${(from, to) => set({ slower: round(from), faster: round(to) })} /></figure>
    <figure class="card"><figcaption>Traces over time <span class="quiet">drag to choose a time</span></figcaption>
      <${Timeline} buckets=${buckets} count=${count} first=${totals.started} last=${totals.last}
        onPick=${(since, until) => set({ since: since.toFixed(6), until: until.toFixed(6) })} /></figure></div>`;
}

function Table({ rows, chosen, open, priced }) {
  const slowest = Math.max(...rows.map((row) => row.duration ?? 0), 1e-9);
  return html`<div class="scroll"><table class="list traces">
    <thead><tr><th><span class="unseen">outcome</span></th><th>name</th><th>prompt → answer</th><th>model</th><th class="number">spans</th><th class="number">tokens</th>
      ${priced && html`<th class="number cost">cost</th>`}<th class="number latency">latency</th><th class="time">started</th></tr></thead>
    <tbody>${rows.map((row, n) => html`<tr key=${`${row.writer_id}/${row.trace_id}/${row.start}`} data-chosen=${n === chosen ? "" : null} onClick=${(event) => {
      if (!event.target.closest("a") && !String(getSelection())) go(open(row));
    }}>
      <td><${Status} outcome=${row.outcome} said=${row.said} /></td>
      <td class="name"><a href=${open(row)}><${Line} text=${row.name || "(no name)"} /></a>${row.spooled && html` <span class="badge open" title="In this machine's spool: not delivered yet">spool</span>`}</td>
      <td class="preview"><div><span class="prompt"><${Line} text=${row.input} /></span> <span class="arrow">→</span> ${
        row.outcome === "ok" ? html`<${Line} text=${row.output} /> <${Recovered} count=${row.recovered} />` : html`<${Ending} row=${row} />`}</div>${row.found && html`<div class="found quiet"><${Line} text=${row.found} /></div>`}</td>
      <td class="model"><${Line} text=${row.models[0] ?? ""} />${row.models.length > 1 ? html` <small>+${row.models.length - 1}</small>` : ""}</td>
      <td class="number">${number(row.spans)}</td>
      <td class="number" title=${`in ${tokensIn(row)}; out ${tokensOut(row)}`}>${row.input_tokens + row.output_tokens ? short(row.input_tokens + row.output_tokens) : "–"}</td>
      ${priced && html`<td class="number">${dollars(row.cost)}</td>`}
      <td class="number latency"><span class="meter" style=${{ width: `${(60 * (row.duration ?? 0)) / slowest}px` }}></span>${seconds(row.duration)}</td>
      <td class="time" title=${when(row.start)}>${time(row.start)}</td></tr>`)}</tbody></table></div>`;
}

// What came of a trace that did not end well: its error, what it asks, or how it ended.
export function Ending({ row }) {
  if (row.outcome === "error") return html`<span class="bad"><${Line} text=${row.error} /></span>`;
  return html`<span class=${`said ${row.outcome}`}>${row.said}</span>${row.asks && html`: <${Line} text=${row.asks} />`} <${Recovered} count=${row.recovered} />`;
}

function About({ about }) {
  const parameters = Object.entries(about.parameters);
  const metrics = Object.entries(about.metrics);
  return html`<div class="charts three">
    <details class="card" open><summary>Parameters <small>${number(about.parameter_count)}</small></summary>
      <dl class="pairs">${parameters.map(([name, value]) => html`<div key=${name}><dt><${Line} text=${name} /></dt><dd><${Line} text=${value} /></dd></div>`)}</dl>
      ${about.parameter_count > parameters.length && html`<p class="quiet">… and ${number(about.parameter_count - parameters.length)} more in its manifest</p>`}</details>
    <details class="card" open><summary>Metrics <small>${number(metrics.length)}</small></summary>
      <${Scroll} label="Metrics"><table class="plain"><thead><tr><th>name</th><th class="number">last</th><th class="number">mean</th><th class="number">min</th><th class="number">max</th><th class="number">points</th></tr></thead>
      <tbody>${metrics.map(([name, metric]) => html`<tr key=${name}><td><${Line} text=${name} /></td>
        ${["last", "mean", "min", "max"].map((field) => html`<td class="number" key=${field}>${plain(metric[field])}</td>`)}<td class="number">${number(metric.count)}</td></tr>`)}</tbody></table><//></details></div>`;
}

export function plain(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? number(value) : String(Number(value.toPrecision(4)));
}
